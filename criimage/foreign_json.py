"""JSON that strangers wrote, and JSON that strangers will read.

What the interpreter happens to allow is no limit of ours: how large, how deep, how many and how many digits is decided
here, and told as a ValueError. What comes out of `parse` can always be written by `dump`, and what `dump` writes can be
read by Go: no NaN, no Infinity, no half of a surrogate pair.
"""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criimage.foreign_text import repaired

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BOUNDS", "Bounds", "check", "dump", "parse", "parse_object", "plain_or_json"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much JSON is read.

    Attributes:
        size: bytes of UTF-8, or characters of a text.
        depth: objects and lists inside each other.
        members: values altogether, those inside of others too.
        digits: of one number, sign, point and exponent included.
    """

    size: int = 16 * 1024 * 1024
    depth: int = 64
    members: int = 1_000_000
    digits: int = 128


BOUNDS = Bounds()
"""What is read and written unless something else is said."""

# Both take the whole text in one go, whatever it holds: a string without an end goes on to the end.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_EMPTY = re.compile(r"\[[ \t\n\r]*+\]|\{[ \t\n\r]*+\}")
_HALF_PAIR = re.compile("\\\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_INDENTED = 8
"""Levels that are written a line each; deeper ones share a line, or indentation would outgrow what it indents."""


def parse(text: str | bytes, bounds: Bounds = BOUNDS) -> Any:  # noqa: ANN401 - JSON can hold anything
    """Read JSON text.

    Bytes that are no UTF-8 and halves of surrogate pairs become U+FFFD, as in Go's reader.

    Raises:
        ValueError: it is none, or more than `bounds` allow. The text says which, and quotes nothing.
    """
    if len(text) > bounds.size:
        raise ValueError(f"larger than {bounds.size} bytes")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    _refuse_many(text, bounds)
    try:
        found = _decoder(bounds).decode(text)
    except RecursionError:
        raise ValueError(_too_deep(bounds)) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at character {error.pos}") from None
    return _finished(found, text, bounds)


def parse_object(text: str | bytes, bounds: Bounds = BOUNDS) -> dict[str, Any]:
    """Read JSON text that must be an object.

    Raises:
        ValueError: as `parse`, or it is something else.
    """
    found = parse(text, bounds)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - wrong content, not a wrong argument
    return found


def plain_or_json(text: str) -> bool:
    """Whether a text that begins with a brace is JSON, as those believe who print it, such as crictl; others may be."""
    if not text.startswith("{"):
        return True
    try:
        parse(text)
    except ValueError:
        # What is too much for a reader here is perhaps for theirs; Go refuses NaN, Infinity and 1e999.
        return False
    return True


def check(value: object, bounds: Bounds = BOUNDS) -> None:
    """Look at values that another reader of JSON has made.

    Raises:
        ValueError: they are deeper or more than `bounds` allow, or hold a number that is not finite.
    """
    count = 0
    level: list[object] = [value]
    depth = 0
    while level:
        count += len(level)
        if count > bounds.members:
            raise ValueError(f"more than {bounds.members} values")
        if depth == bounds.depth and any(isinstance(each, dict | list | tuple) for each in level):
            raise ValueError(_too_deep(bounds))
        for each in level:
            _check_number(each, bounds)
        level = list(_inside(level))
        depth += 1


def dump(value: object, *, indented: bool = False, bounds: Bounds = BOUNDS) -> str:
    """Write JSON, in ASCII, keys in the order they have, without white space unless `indented`.

    The text is at most some twelve times as long as what it holds.

    Args:
        value: of dicts with text keys, lists, tuples, texts, numbers, truth values and None.
        indented: for people: the upper levels are written a line each.
        bounds: what may be written.

    Raises:
        ValueError: `value` is deeper or more than `bounds` allow, or holds a number that is not finite.
    """
    check(value, bounds)
    if not indented:
        return json.dumps(_repaired(value), allow_nan=False, separators=(",", ":"))
    return "".join(_written(value, 0))


def _written(value: object, level: int) -> Iterator[str]:
    nested = isinstance(value, dict | list | tuple) and bool(value)
    if not nested or level >= _INDENTED:
        yield json.dumps(_repaired(value), allow_nan=False)
        return
    margin = "  " * (level + 1)
    separator = ""
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    yield opening
    members = value.items() if isinstance(value, dict) else ((None, each) for each in value)  # type: ignore[attr-defined]
    for key, each in members:
        yield f"{separator}\n{margin}"
        if isinstance(value, dict):
            yield f"{json.dumps(repaired(str(key)))}: "
        yield from _written(each, level + 1)
        separator = ","
    yield f"\n{'  ' * level}{closing}"


def _refuse_many(text: str, bounds: Bounds) -> None:
    # A value more needs a comma more, or another pair of brackets; only what looks like too many is counted exactly:
    # what is between two brackets is a value more than it has commas, or none.
    if text.count(",") + text.count("[") + text.count("{") < bounds.members:
        return
    bare = _STRING.sub("0", text)
    filled = bare.count("[") + bare.count("{") - len(_EMPTY.findall(bare))
    if 1 + bare.count(",") + filled > bounds.members:
        raise ValueError(f"more than {bounds.members} values")


@functools.lru_cache(maxsize=8)
def _decoder(bounds: Bounds) -> json.JSONDecoder:
    def integer(digits: str) -> int:
        if len(digits) > bounds.digits:
            raise ValueError(f"a number of more than {bounds.digits} digits")
        return int(digits)

    def real(digits: str) -> float:
        if len(digits) > bounds.digits:
            raise ValueError(f"a number of more than {bounds.digits} digits")
        found = float(digits)
        if math.isinf(found):
            raise ValueError("a number that is too large")
        return found

    return json.JSONDecoder(parse_int=integer, parse_float=real, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:  # noqa: ANN401 - never returns
    raise ValueError(f"{name} is no JSON")


def _finished(found: object, text: str, bounds: Bounds) -> object:
    # Numbers were looked at as they were read.
    if text.count(",") > bounds.members // 2:
        check(found, bounds)
    elif text.count("[") + text.count("{") > bounds.depth:
        _check_depth(found, bounds)
    # The two looks are as fast as memory; the search takes longer than the reading.
    odd = "\\u" in text or not text.isascii()
    return _repaired(found) if odd and _HALF_PAIR.search(text) else found


def _check_depth(value: object, bounds: Bounds) -> None:
    """Look at what the reader has made, of dicts and lists, thousands of values at a time."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(bounds.depth):
        if not level:
            return
        level = [
            each
            for outer in level
            for each in (outer.values() if type(outer) is dict else outer)
            if type(each) is dict or type(each) is list
        ]
    if level:
        raise ValueError(_too_deep(bounds))


def _repaired(value: object) -> object:
    # Of a depth that was checked.
    if isinstance(value, str):
        return repaired(value)
    if isinstance(value, dict):
        return {repaired(key) if isinstance(key, str) else key: _repaired(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_repaired(each) for each in value]
    return value


def _inside(level: list[object]) -> Iterator[object]:
    for each in level:
        if isinstance(each, dict):
            yield from each.values()
        elif isinstance(each, list | tuple):
            yield from each


def _check_number(value: object, bounds: Bounds) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    # log2(10) < 3.33: a look at the bits costs nothing, the digits of a long number cost a lot.
    if isinstance(value, int) and value.bit_length() > bounds.digits * 3.33:
        raise ValueError(f"a number of more than {bounds.digits} digits")


def _too_deep(bounds: Bounds) -> str:
    return f"nested deeper than {bounds.depth}"
