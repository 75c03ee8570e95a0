"""Attacks on a running server: `python -m attack`."""
