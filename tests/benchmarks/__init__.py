"""Measures criimage beside what stands behind it, in one run: `python -m benchmarks`, called in the folder `tests`."""
