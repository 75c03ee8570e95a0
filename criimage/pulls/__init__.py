"""Pulls as every backend gets them: shared, limited, timed, cancellable, observable, audited.

A request's way: `Pulls.pull` joins or starts a pull (sharing.py), which tries its candidates (candidates.py), each when
it has a place (places.py) and within its deadlines (deadlines.py), and is written down at its end (audit.py).
"""
