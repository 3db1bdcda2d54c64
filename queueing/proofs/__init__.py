"""Certificates: evidence for a claim that is checked without trusting what produced it."""
