"""Whether the cost of a function grows as its input does, told by the thread's own CPU time."""

from __future__ import annotations

import contextlib
import gc
import re
import time
from typing import TYPE_CHECKING

from criimage.errors import CriimageError

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 5
ALLOWED = 8.0
"""n and 4n: linear is 4, quadratic is 16."""
LOOKS = 6
"""Others on the same core make a call cost more now and then; what grows too fast does so at every look, and each look
takes the least of more calls than the one before."""
CERTAIN = 0.1
"""Seconds from which on nothing but the function itself makes a ratio that is nearly quadratic."""
PLAIN = 12.0
"""A ratio between linear and quadratic: beside other work a linear function had one of 9."""
SURE = 5.0
"""A ratio that needs no second look."""
HEAVY = 200.0
"""Looks at each sign; the costliest function, which masks a text several times, takes 40."""
_EACH = re.compile(r"\w|\W")
UNNOTICED = 0.002
"""Seconds below which a ratio would be one of the clock's own unevenness."""


def seconds(call: Callable[[], object], times: int) -> float:
    """Return the least CPU time of a few calls."""
    best = float("inf")
    gc.disable()
    try:
        for _ in range(times):
            begin = time.thread_time()
            call()
            best = min(best, time.thread_time() - begin)
    finally:
        gc.enable()
    return best


def growth(function: Callable[[str], object], pattern: str, size: int) -> float:
    """Return how much more four times the text costs; 0 if that is next to nothing.

    In doubt it is the lesser of two such steps: what grows too fast does so at both, and a function that does something
    once more for a text that is longer than it looks at costs more at one of them only. One that answers such a text
    with a ValueError or an error of ours has done its work.
    """
    short, long, longest = (pattern * (length // len(pattern) + 1) for length in (size, 4 * size, 16 * size))

    def once(text: str) -> None:
        try:
            function(text[: len(text) - len(text) % len(pattern)])
        except ValueError:
            pass
        except Exception as error:
            if not type(error).__module__.startswith("criimage"):
                raise

    # Once is enough where it costs next to nothing, or as much more as it should.
    first = seconds(lambda: once(long), 1)
    if first < UNNOTICED or first < SURE * seconds(lambda: once(short), 1):
        return 0.0
    found = 0.0
    for look in range(1, LOOKS + 1):
        much = seconds(lambda: once(long), look * TIMES)
        few = seconds(lambda: once(short), look * TIMES)
        found = 0.0 if much < UNNOTICED else much / max(few, UNNOTICED / ALLOWED)
        if found >= ALLOWED:
            found = min(found, seconds(lambda: once(longest), 1) / much)
        if found < ALLOWED or (much > CERTAIN and found > PLAIN):
            break
    return found


def weight(function: Callable[[str], object], pattern: str, size: int) -> float:
    """Return how often one could have looked at each sign of the text alone for what the function costs.

    `growth` does not see what is quadratic up to a bound only: the ratio is right, each sign costs a thousand.
    """
    text = (pattern * (size // len(pattern) + 1))[:size]

    def once() -> None:
        with contextlib.suppress(ValueError, CriimageError):
            function(text)

    found = 0.0
    for _ in range(LOOKS):
        found = seconds(once, 1) / seconds(lambda: _EACH.findall(text), TIMES)
        if found <= HEAVY:
            break
    return found


PATTERNS = (
    # One of each class of characters that grammars tell apart.
    *"aZ0/:@?=&%.-_,;\"'\\<>[]{}()|+*~^$#!",
    " ",
    "\n",
    "\t",
    "\x00",
    "\x1b",
    "\u00e9",
    "\u200b",
    "\ud800",
    "\U0001f600",
    # And what expressions begin with, or nearly match, again and again.
    "//",
    "/a",
    "a/",
    "a:",
    "a@",
    "?a",
    "->",
    "1:1->",
    "a:1",
    "<html",
    "<",
    "eyJ",
    "eyJ.",
    "Basic ",
    "bearer a",
    "basic ab12",
    "authorization: ",
    "authorization:basic ",
    "password=",
    "password=a",
    "%2",
    "%3D",
    '\\"',
    '"a":',
    'token":"',
    "@sha256:",
    "a@sha256:",
    "u:p@",
    "//u:p@",
    "(Mirrors also failed: [",
    'level=fatal msg="',
    'level=fatal msg="a" ',
    'msg="\\',
    "lookup a on ",
    "lookup ",
    "/storage1/",
    "/storage1/2",
    "/proc/self/fd/1",
    "/criimage-work-",
    "criimage-work-",
    "blob sha256:a: ",
    "reading manifest ",
    "reading manifest a in ",
    "container registry ",
    "docker://",
    "https:",
    "status ",
    "unexpected status ",
    "(heuristic tuning data: ",
    "sha256:",
    "dXNlcjpwdw==",
    "http 4",
    ": eof",
    "no match for ",
    "Source image rejected: ",
    "open ",
    "open /a",
    "rename a/",
    ": no such file or directory",
    "a/a/",
)
