"""What the engine answers, taken as what it must be: objects, lists, and the words of a refusal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from criimage.foreign_json import check, parse
from criimage.foreign_text import keep_start

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONFLICT", "NOT_FOUND", "Refusal", "container_name", "nonsense", "object_of", "objects_of", "words_of"]

NOT_FOUND = 404
CONFLICT = 409

_NAME_LIMIT = 255
_BODY_LIMIT = 1024 * 1024


class Refusal(Exception):
    """The engine answered, and the answer is an error.

    Attributes:
        status: of HTTP.
        message: the engine's own words, without the prefix that Go's client adds (G6).
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


def object_of(found: object) -> dict[str, Any]:
    """Return an answer that must be an object, of which nothing is too much for whoever reads it afterwards."""
    if not isinstance(found, dict):
        raise nonsense("no JSON object")
    try:
        check(found)
    except ValueError as error:
        raise nonsense(str(error)) from error
    return found


def objects_of(found: object) -> list[dict[str, Any]]:
    """Return an answer that must be a list of objects; null is Go's empty list."""
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise nonsense("no list of JSON objects")
    return found


def nonsense(why: str) -> Refusal:
    """Return what an answer that cannot be read comes to."""
    return Refusal(200, f"the engine's answer cannot be read: {keep_start(why, _NAME_LIMIT)}")


def container_name(container: Mapping[str, Any]) -> str:
    """Return the name of a container in a list, or its ID."""
    names = container.get("Names")
    name = names[0] if isinstance(names, list) and names else container.get("Id", "")
    return keep_start(str(name).removeprefix("/"), _NAME_LIMIT)


def words_of(body: bytes, status: int) -> str:
    """Return the message of an error answer, however the engine or a proxy before it wrapped it."""
    # A registry's page may have come with it; what is larger than any message is no message.
    text = body[:_BODY_LIMIT].decode("utf-8", "replace").strip()
    if text.startswith("{"):
        with contextlib.suppress(ValueError):
            found = parse(text)
            if isinstance(found, dict) and isinstance(found.get("message"), str):
                text = found["message"].strip()
    return text or f"HTTP status {status}"
