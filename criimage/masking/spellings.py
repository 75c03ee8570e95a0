"""How a value may be written: in URLs, JSON, Go's quoted texts, HTML and base64."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SHORTEST_CORE", "all_spellings", "base64_cores", "base64_of", "spellings"]

SHORTEST_CORE = 8
"""Characters of base64 from which on they tell that a value is in it."""

_ESCAPE = re.compile("%[0-9A-F]{2}")


def all_spellings(values: set[str]) -> set[str]:
    """Return the spellings of all `values`, and those of one kind inside of another."""
    once = {spelling for value in values for spelling in spellings(value)}
    # Escapes for JSON, or for HTML, in a URL.
    return once | {quote(spelling, safe="") for spelling in once}


def spellings(value: str) -> Iterator[str]:
    """Yield the ways in which `value` is written in URLs, JSON, Go's quoted texts and HTML."""
    from html import escape  # its table of entities takes 0.3 MiB

    exact = value.encode("utf-8", "surrogateescape")
    shown = exact.decode("utf-8", "replace")
    for text in {value, shown}:
        yield text
        yield escape(text)
        yield escape(text, quote=False)
        for whole in (True, False):
            escaped = json.dumps(text, ensure_ascii=whole)[1:-1]
            yield escaped
            yield json.dumps(escaped)[1:-1]
            # Go's encoder escapes these three, and a log line escapes the whole once more.
            for sign, code in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e")):
                escaped = escaped.replace(sign, code)
            yield escaped
            yield json.dumps(escaped)[1:-1]
    for text in (
        quote(exact, safe=""),
        quote(exact, safe="/"),
        quote(exact),
        quote_plus(exact),
        _escaped_at_all(exact),
    ):
        yield text
        yield _ESCAPE.sub(lambda found: found[0].lower(), text)
        yield quote(text, safe="")


def _escaped_at_all(exact: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in exact)


def base64_of(value: str) -> Iterator[str]:
    """Yield base64 of `value` in both alphabets, with and without the signs that fill it up."""
    exact = value.encode("utf-8", "surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(exact).decode()
        yield whole
        yield whole.rstrip("=")


def base64_cores(value: str) -> Iterator[str]:
    """Yield what base64 of anything with `value` in it contains, whatever stands before and behind it."""
    exact = value.encode("utf-8", "surrogateescape")
    for before, lost in ((0, 0), (1, 2), (2, 3)):
        padded = b"\0" * before + exact
        kept = padded[: len(padded) - len(padded) % 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            core = encode(kept).decode()[lost:]
            if len(core) >= SHORTEST_CORE:
                yield core
