"""Pulls as every backend gets them: shared, limited, timed, cancellable, observable, audited.

A request's way: `Pulls.pull` joins or starts a pull (sharing.py), which makes its attempts (attempts.py), each when it
has a slot (limiter.py) and within its deadlines (policy.py), and is written down at its end (audit.py).
"""
