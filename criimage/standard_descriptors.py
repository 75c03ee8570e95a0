"""The numbers of standard input, output and error."""

from __future__ import annotations

import os

__all__ = ["open_closed_descriptors"]

_STANDARD = (0, 1, 2)


def open_closed_descriptors() -> None:
    """Open the null device as standard input, output or error where that is closed; to be called before anything else.

    Otherwise the next file or socket would get that number, and whatever a library or a child prints would go into it.
    A library may open one as soon as it is imported, and keep it: libffi does, its own file.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is the one that is closed: those below have been looked at.
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, True)
