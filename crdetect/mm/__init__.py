"""M.M.Cosmic: the Median-Minimum method (Cardiel et al. 2026)."""
