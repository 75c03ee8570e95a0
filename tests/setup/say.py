"""What the set-up tells whoever started it."""

from __future__ import annotations

import sys


class SetupError(RuntimeError):
    """The set-up cannot go on; the text says what to do, and is all that is shown."""


def say(line: str) -> None:
    """One line, at once, between the output of the tools that run."""
    sys.stdout.write(f"setup: {line}\n")
    sys.stdout.flush()
