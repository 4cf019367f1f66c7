"""How the exposures differ: flux, place, photon statistics, and the noise model fitted to them."""
