"""Where numina looks for defaults by profile and mode: ``configs.yaml``. Code is in `recipe`."""
