"""A call and its answer as a report shows them: decoded, bounded, and without credentials."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import betterproto

__all__ = ["Exchange", "shown"]

_TEXT_LIMIT = 300
_LIST_LIMIT = 8
_SECRETS = frozenset({"password", "auth", "identityToken", "registryToken"})


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call.

    Attributes:
        method: such as `v1 PullImage`.
        request: as JSON, or what it was where it was no message.
        answer: as JSON; empty where there was none.
        error: `CODE: text`; empty for OK.
        milliseconds: from the first byte to the last.
    """

    method: str
    request: str
    answer: str
    error: str
    milliseconds: float


def shown(message: betterproto.Message | bytes) -> str:
    """Return a message as JSON of one line, long parts cut and credentials masked; bytes as their beginning."""
    if isinstance(message, bytes):
        return f"{len(message)} bytes: {message[:40].hex(' ')}{' …' if len(message) > 40 else ''}"
    return json.dumps(_bounded(message.to_dict()), ensure_ascii=True)


def _bounded(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        items = list(value.items())
        kept = {name[:_TEXT_LIMIT]: _bounded(one, name) for name, one in items[:_LIST_LIMIT]}
        return kept | ({"…": f"{len(items) - _LIST_LIMIT} more"} if len(items) > _LIST_LIMIT else {})
    if isinstance(value, list):
        more = [f"… {len(value) - _LIST_LIMIT} more"] if len(value) > _LIST_LIMIT else []
        return [_bounded(one) for one in value[:_LIST_LIMIT]] + more
    if isinstance(value, str):
        if key in _SECRETS:
            return "***"
        return value if len(value) <= _TEXT_LIMIT else f"{value[:_TEXT_LIMIT]}… {len(value)} characters"
    return value
