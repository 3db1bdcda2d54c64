"""Experiments that hold a claim against a measurement, their plots and reports, and the command line."""
