"""Lengths of time as operators write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from criimage.duration import Duration, duration_text, parse_duration

ADAPTER: TypeAdapter[float] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (0, 0),
        ("0s", 0),
        ("60s", 60),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (" 2m ", 120),
        ("1h1m1s1ms", 3661.001),
    ],
)
def test_what_is_one(text: object, seconds: float) -> None:
    """Numbers with units, after each other; a bare 0 as well."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        5,
        1.5,
        True,
        False,
        "s",
        "-1s",
        "1 s",
        "1d",
        "1S",
        "1m 30s",
        "٣s",
        None,
        [],
        "1e3s",
        "inf",
        "9" * 400 + "h",
    ],
)
def test_what_is_none(text: object) -> None:
    """A number without a unit could mean anything; nothing is guessed."""
    with pytest.raises(ValueError, match=r"not a duration such as|has no unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5", "has no unit"),
        (5, "has no unit"),
        (1.5, "has no unit"),
        (True, "not a duration"),
        ("5x", "not a duration"),
    ],
)
def test_a_number_alone_is_told_apart(text: object, told: str) -> None:
    """What is missing is said: the unit, of a number; all of it, of anything else."""
    with pytest.raises(ValueError, match=told):
        parse_duration(text)


@given(st.integers(0, 10**9))
def test_a_text_says_the_same(milliseconds: int) -> None:
    """To the millisecond, and in the settings' own serialisation too."""
    text = duration_text(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds
    assert re.fullmatch(r"(\d+(h|ms|m|s))+", text)
    assert ADAPTER.validate_python(ADAPTER.dump_python(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.25, "250ms"),
        (60, "60s"),
        (120, "120s"),
        (121, "2m1s"),
        (600, "10m"),
        (3600, "1h"),
        (5400.5, "1h30m500ms"),
    ],
)
def test_how_it_is_written(seconds: float, text: str) -> None:
    """Seconds up to two minutes, then larger units; the text stands in errors and so is stable."""
    assert duration_text(seconds) == text
