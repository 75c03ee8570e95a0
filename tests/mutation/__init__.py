"""Changes the code in small ways, one at a time, and looks whether a test notices: `python -m mutation` in tests/."""
