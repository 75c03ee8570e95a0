"""The engine's words, fit to be shown (P14)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["tidy"]


def tidy(message: str, secrets: Iterable[str] = ()) -> str:
    """Return the engine's words without what nobody can use or may read.

    A page of HTML, which a proxy may have sent instead of an answer, becomes its title or nothing (P14). Ports of
    outgoing connections and query strings with tokens go too: the same failure always has the same text.
    """
    for secret in secrets:
        if secret:
            message = message.replace(secret, "…")
    for pattern, replacement in _VOLATILE:
        message = pattern.sub(replacement, message)
    message = " ".join(message.split())
    return message if len(message) <= _LENGTH_LIMIT else message[:_LENGTH_LIMIT] + "…"


_LENGTH_LIMIT = 256
_VOLATILE = (
    (re.compile(r":? *\\?[\"']?\s*<(?:!doctype|\?xml|html|head|body)\b.*", re.IGNORECASE | re.DOTALL), ""),
    (re.compile(r": invalid character '<' looking for beginning of value"), ""),
    (re.compile(r"//[^/@\s\"]+@"), "//"),
    (re.compile(r"[0-9a-fA-F.:\[\]]+:\d+->"), ""),
    (re.compile(r"\blookup (\S+) on \S+:"), r"lookup \1:"),
    (re.compile(r"\?[^\s\"]*"), ""),
)
