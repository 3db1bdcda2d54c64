"""Tests of Tandem; the folders mirror the packages, `strategies.py` holds every hypothesis generator."""
