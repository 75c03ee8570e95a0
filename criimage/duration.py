"""Lengths of time as operators write them: `60s`, `1m30s`, `500ms`, `0`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

__all__ = ["Duration", "duration_text", "parse_duration"]

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PLAIN_SECONDS = 120_000
# Of more digits it would be no number of seconds that a float holds, and nobody means it.
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|m|s)")
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(value: Any) -> float:  # noqa: ANN401 - whatever stands in the settings
    """Return seconds.

    Raises:
        ValueError: no duration; a bare number other than 0 has no unit and is none.
    """
    text = str(value).strip()
    if text == "0":
        return 0.0
    if not isinstance(value, bool) and _NUMBER.fullmatch(text):
        raise ValueError('has no unit; it is written as "60s", "1m30s", "500ms" or "0s"')
    if isinstance(value, bool) or not _WHOLE.fullmatch(text):
        raise ValueError('not a duration such as "60s", "1m30s", "500ms" or "0s"')
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def duration_text(seconds: float) -> str:
    """Return text that `parse_duration` reads as `seconds`, to the millisecond; seconds up to two minutes."""
    parts = []
    rest = round(seconds * 1000)
    if rest <= _PLAIN_SECONDS and rest % 1000 == 0:
        return f"{rest // 1000}s"
    for unit, length in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(duration_text, return_type=str)]
"""Seconds in code, text in settings."""
