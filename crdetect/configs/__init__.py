"""Instrument profiles of numina: JSON files, whose names are unique among all instruments."""
