"""Weights that are zero: a share of them, or 2 of 4."""
