"""The engine's words, fit to be shown (P14)."""

from __future__ import annotations

import re

from criimage.foreign_text import readable, without_paths
from criimage.masking import NO_SECRETS, Secrets

__all__ = ["STORE", "tidy"]

STORE = "the engine's store"

_LENGTH_LIMIT = 256
_NO_JSON = ": invalid character '<' looking for beginning of value"
_LOOKUP = re.compile(r"\blookup (\S{1,255}) on \S{1,64}:")
_QUERY = re.compile(r"\?[^\s\"]*")


def tidy(message: str, secrets: Secrets = NO_SECRETS) -> str:
    """Return the engine's words without what nobody can use or may read, in time in proportion to their length.

    A page of HTML, which a proxy may have sent instead of an answer, becomes nothing (P14). Ports of outgoing
    connections and query strings with tokens go too: the same failure always has the same text.
    """
    message = secrets.mask(message).replace(_NO_JSON, "")
    return readable(without_paths(_QUERY.sub("", _LOOKUP.sub(r"lookup \1:", message))), _LENGTH_LIMIT)
