"""Instrument profiles of numina, which describe the detectors of instruments: JSON files.

The folder is named in ``drp.yaml``, which lists the UUIDs of the profiles. numina demands that the
names of the files are unique among all instruments. `crdetect.profiles` reads the values of a
profile.
"""
