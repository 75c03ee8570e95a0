"""JSON of strangers is read within bounds of ours, and JSON of ours can be read by all."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from criimage import foreign_json
from criimage.foreign_json import Bounds, check, dump, parse, parse_object, plain_or_json

SMALL = Bounds(size=10_000, depth=5, members=100, digits=20)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "0",
        '"x"',
        "null",
        '{"a": [1, -2.5e3, true, false, null, "\\u00e9\\n"], "a": 2}',
        " [ ] ",
        '"\\ud83d\\ude00"',
    ],
)
def test_what_is_json_is_read_as_ever(text: str) -> None:
    """Ordinary JSON is read and written as by Python's own module."""
    assert parse(text) == json.loads(text)
    assert parse(text.encode()) == json.loads(text)
    assert json.loads(dump(parse(text))) == json.loads(text)
    assert json.loads(dump(parse(text), indented=True)) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("1e999", "too large"),
        ("-1e999", "too large"),
        ("9" * 5000, "more than 128 digits"),
        ("0." + "9" * 5000, "more than 128 digits"),
        ("1e" + "0" * 5000, "more than 128 digits"),
        ("[" * 100_000, "nested deeper than 64"),
        ('{"a":' * 100_000, "nested deeper than 64"),
        ("[" * 65 + "]" * 65, "nested deeper than 64"),
        ("[" + "0," * 2_000_000 + "0]", "more than 1000000 values"),
        ("[" + "[]," * 2_000_000 + "0]", "more than 1000000 values"),
        ("[" + "0," * 999_999 + "0]", "more than 1000000 values"),
        ('"' + " " * 17 * 1024 * 1024 + '"', "larger than 16777216 bytes"),
        ("{", "no JSON"),
        ("\ufeff{}", "no JSON"),
        ("", "no JSON"),
        ("{} x", "no JSON"),
        ("'secret'", "no JSON"),
    ],
)
def test_what_is_too_much_is_a_value_error(text: str, why: str) -> None:
    """The bound and nothing else decides, whatever the interpreter allows; the text quotes nothing."""
    with pytest.raises(ValueError, match=why) as caught:
        parse(text)
    assert len(str(caught.value)) < 100
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_bounds_are_exact() -> None:
    """What is just allowed passes, one more does not; commas and braces in texts count for nothing."""
    assert parse("[" * 5 + "]" * 5, SMALL) == [[[[[]]]]]
    assert len(parse("[" + "0," * 98 + "0]", SMALL)) == 99
    assert parse("9" * 20, SMALL) == 10**20 - 1
    text = json.dumps({"a": ",[{" * 1000 + '\\"'})
    assert parse(text, SMALL) == json.loads(text)
    for wrong in ("[" * 6 + "]" * 6, "[" + "0," * 99 + "0]", "9" * 21):
        with pytest.raises(ValueError, match="than"):
            parse(wrong, SMALL)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("[" + "0," * 98 + "0]", 100),
        ("[" + "[]," * 98 + "[ ]]", 100),
        ("[" + "{}," * 98 + "{\n}]", 100),
        ("[" + "[0]," * 49 + "0]", 100),
        ("[" + '{"a": 0},' * 49 + "0]", 100),
        ("{" + ",".join(f'"{key}": 0' for key in range(99)) + "}", 100),
        ("[" + '"",' * 98 + '""]', 100),
    ],
)
def test_values_are_counted_as_they_are(text: str, count: int) -> None:
    """An empty list or object is one value, whatever it is written with; what a reader would make is never too many."""
    assert parse(text, replace(SMALL, members=count)) == json.loads(text)
    check(parse(text), replace(SMALL, members=count))
    for looked_at in (lambda bounds: parse(text, bounds), lambda bounds: check(json.loads(text), bounds)):
        with pytest.raises(ValueError, match=f"more than {count - 1} values"):
            looked_at(replace(SMALL, members=count - 1))


@pytest.mark.parametrize("text", ["[" + "0," * 99 + "0]", "[" + "[0]," * 60 + "0]", "[" * 60 + "0" + ",0]" * 60])
def test_what_is_too_many_is_never_made(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Counted in the text: Python's values would take fifty times its memory before anybody could count them."""
    monkeypatch.setattr(foreign_json, "_decoder", None)
    with pytest.raises(ValueError, match="more than 100 values"):
        parse(text, SMALL)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", True),
        ("any text", True),
        ("[1", True),
        ('{"a": 1}', True),
        ("{{ template", False),
        ('{"a": NaN}', False),
        ('{"a": 1e999}', False),
        ("{" * 100, False),
    ],
)
def test_a_text_that_would_be_taken_for_json(text: str, plain: bool) -> None:
    """What begins with a brace is read by crictl, which ends with an error where that is no JSON (S8)."""
    assert plain_or_json(text) is plain


def test_deep_json_far_down_the_stack() -> None:
    """A caller that is deep itself never gets a RecursionError: a ValueError, or from Python 3.12 on what it asked for.

    The C code that reads JSON has a limit of its own since then.
    """

    def down(levels: int) -> Any:  # noqa: ANN401
        return parse("[" * 60 + "]" * 60) if not levels else down(levels - 1)

    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    levels = sys.getrecursionlimit() - depth - 30
    if sys.version_info >= (3, 12):
        assert down(levels) == parse("[" * 60 + "]" * 60)
        return
    with pytest.raises(ValueError, match="nested"):
        down(levels)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\uDC00a": "x\\udbff"}', b'"\xed\xa0\x80"', b'"\xff"', '["\ud800"]'])
def test_halves_of_pairs_are_repaired(text: str | bytes) -> None:
    """What Go reads as U+FFFD is that here, in keys too, so that every client can be sent what was read."""
    read = parse(text)
    str(read).encode()
    found = dump(read)

    found.encode()
    assert "ufffd" in found
    assert "\\ud" not in found


def test_objects_only() -> None:
    """Where an object is expected, nothing else passes."""
    assert parse_object(b'{"a": 1}') == {"a": 1}
    for wrong in ("[]", "null", "1", '"{}"'):
        with pytest.raises(ValueError, match="no JSON object"):
            parse_object(wrong)


def deep(levels: int) -> object:
    """Return lists inside each other."""
    value: object = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [float("nan"), [float("inf")], {"a": 10**5000}, deep(65), deep(100_000), [0] * 1_000_001]
)
def test_what_cannot_be_written_is_a_value_error(value: object) -> None:
    """Values of other readers are held to the same bounds before they are written or looked at."""
    for use in (check, dump):
        with pytest.raises(ValueError, match=r"than|finite"):
            use(value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60 + "]" * 60,
        ",".join(["[" * 50 + "]" * 50] * 150).join("[]"),
        '{"\x7f' * 60 + '":0}' + "}" * 59,
        '["\ud800' + "\x01" * 6000 + '"]',
    ],
)
def test_what_is_written_does_not_outgrow_what_was_read(text: str) -> None:
    """Indentation and escapes stay in proportion to the content."""
    try:
        found = parse(text)
    except ValueError:
        found = [text]
    assert len(dump(found, indented=True)) <= 12 * len(text) + 200


def test_people_get_lines() -> None:
    """Indented output is Python's own as far as its depth is read by anybody."""
    value: object = {"a": [1, {"b": []}], "c": {}, "d": "é", "e": None}

    assert dump(value, indented=True) == json.dumps(value, indent=2)
    assert dump(value) == json.dumps(value, separators=(",", ":"))
