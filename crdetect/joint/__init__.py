"""Joint detection: all exposures at once, with a noise model that is fitted to them."""
