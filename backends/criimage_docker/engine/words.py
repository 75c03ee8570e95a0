"""The engine's words, fit to be shown (P14)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from criimage.errors import InvalidRequest, OperationFailed
from criimage.foreign_text import readable, without_paths
from criimage.masking import NO_SECRETS, Secrets

if TYPE_CHECKING:
    from criimage_docker.engine.answers import Refusal

__all__ = ["STORE", "refused", "tidy"]

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


def refused(refusal: Refusal, what: str) -> InvalidRequest | OperationFailed:
    """Return the error for a call that the engine refused.

    Args:
        refusal: its answer.
        what: it cannot do: "list its images".
    """
    said = tidy(refusal.message)
    if "invalid reference format" in said:
        # 20.10 knows no registry host of capital letters without a dot.
        return InvalidRequest(f"the Docker engine cannot read the name: {said}")
    return OperationFailed(f"the Docker engine cannot {what}: {said}")
