"""A registry that answers 429 and asks for patience, as skopeo tells it in debug lines.

skopeo waits as long as `Retry-After` says, a minute at most, five times (containers/image `makeRequestToResolvedURL`).
Only its debug lines tell about it while it does.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

__all__ = ["seconds_to_wait", "waits"]

_ASKED = re.compile(r"Detected 'Retry-After' header \\{0,2}\"([^\"\\]{1,64})")
_SLEEPS = re.compile(r"Too many requests to [^\n]{1,2000}: sleeping for ([0-9]{1,9})[.0-9]{0,9} seconds")


def waits(said: str) -> bool:
    """Tell whether skopeo waits now: that is the last thing it said."""
    return _SLEEPS.search(said.rstrip().rpartition("\n")[2]) is not None


def seconds_to_wait(said: str) -> int | None:
    """Return the seconds that the registry asked for last, or those that skopeo waits by itself; None if neither."""
    asked = _ASKED.findall(said)
    if asked and (seconds := _seconds(asked[-1])) is not None:
        return seconds
    slept = _SLEEPS.findall(said)
    return int(slept[-1]) if slept else None


def _seconds(header: str) -> int | None:
    if header.isascii() and header.isdigit():
        return int(header[:9])
    try:
        moment = parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        # The second for a zone or a year of twenty digits.
        return None
    return max(0, round(moment - time.time()))
