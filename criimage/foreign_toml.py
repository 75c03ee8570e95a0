"""Settings files: TOML that an operator, a package or a tool has written, within the bounds of criimage.foreign_json.

What Python's reader makes of a number of 5000 digits or of a thousand brackets depends on the interpreter; here each is
an error in the file like any other.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from criimage.foreign_json import Bounds, check

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["key_lines", "parse_toml"]

_BOUNDS = Bounds(depth=32, members=1_000_000, digits=19)
"""TOML's own integers have 64 bits."""

_WORK = 300_000
"""So many characters are looked at to find the lines of keys: ten times what a large settings file needs."""

_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)", re.DOTALL)
# What Python's reader says, and what an operator can do with.
_WORDS = (
    (re.compile(r"Invalid value"), 'no value that TOML knows; text stands in "quotes"'),
    (
        re.compile(r"Expected newline or end of document after a statement"),
        'the line should end before this; text stands in "quotes", and so does a length of time: "60s"',
    ),
    (re.compile(r"Cannot overwrite a value|Cannot mutate immutable namespace .*"), "it has a value already"),
    (re.compile(r"Cannot declare \((.*?),?\) twice"), "the table [{}] is there already; put its keys together"),
    (re.compile(r"Illegal character '\\n'|Unterminated string"), "the quote that ends the text is missing"),
    (re.compile(r"Expected \"'+\""), "the quote that ends the text is missing"),
    (
        re.compile(r"Unescaped '\\+' in a string"),
        "a \\ in \"quotes\" is written \\\\, or the text stands in 'such quotes'",
    ),
    (re.compile(r"Unclosed array"), "the ] that ends the list is missing"),
    (re.compile(r"Unclosed inline table"), "the }} that ends the table is missing"),
    (re.compile(r"Invalid statement|Invalid initial character for a key part"), "no key and no [table] begins here"),
    (re.compile(r"Expected '=' after a key in a key/value pair"), "a = after the key is missing"),
    (re.compile(r"Expected '\]{1,2}' at the end of .*"), "the ] after the table's name is missing"),
)


def parse_toml(text: str | bytes) -> dict[str, Any]:
    """Read TOML text.

    Raises:
        ValueError: it is none, and then the text says in which line; or it is larger, deeper or more than is allowed.
    """
    if len(text) > _BOUNDS.size:
        raise ValueError(f"larger than {_BOUNDS.size} bytes")
    try:
        found = tomllib.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError(f"nested deeper than {_BOUNDS.depth}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_said(str(error))) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: this is no text in UTF-8") from None
    except ValueError:
        # The interpreter's own limit, in words that tell an operator nothing.
        raise ValueError(f"a number of more than {_BOUNDS.digits} digits") from None
    check(found, _BOUNDS)
    return found


def _said(text: str) -> str:
    """Return what Python's reader says as `line 3, column 5: ...`."""
    place = _PLACE.fullmatch(text)
    if place is None:
        return text
    said, line, column, at_end = place.groups()
    for pattern, words in _WORDS:
        if found := pattern.fullmatch(said):
            # A table's name comes as Python writes a tuple.
            said = words.format(*(".".join(re.findall(r"'([^']*)'", part)) for part in found.groups()))
            break
    return f"{'at its end' if at_end else f'line {line}, column {column}'}: {said}"


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of each key and table of TOML text that `parse_toml` has read; of the first ones if it is long.

    Python's reader does not tell. A statement ends where what began after the last one can be read by itself.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    statement, begun, work = "", 1, 0
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            begun = number
        statement += f"{line}\n"
        work += len(statement)
        if work > _WORK:
            break
        try:
            read = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        is_header, statement = statement.lstrip().startswith("["), ""
        paths = list(_paths(read))
        if is_header:
            table = paths[-1]
            paths = [table[:length] for length in range(1, len(table) + 1)]
        else:
            paths = [(*table, *path) for path in paths]
        for path in paths:
            found.setdefault(path, begun)
    return found


def _paths(table: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (key,)
        # An entry of an array of tables.
        below = value[-1] if isinstance(value, list) and value and isinstance(value[-1], dict) else value
        if isinstance(below, dict):
            for path in _paths(below):
                yield (key, *path)
