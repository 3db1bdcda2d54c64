"""Tandem's policies in engines that others wrote."""
