"""From the engine's JSON to what clients see (C1-C10)."""

from __future__ import annotations

import contextlib
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from criimage.backend import Image, User
from criimage.foreign_text import repaired
from criimage.reference import ImageID
from criimage_docker.engine.names import is_reference, only_digests, only_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["convert", "created", "is_of_containerd", "labels_of", "section", "unreadable_names", "user_of"]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64_LIMIT = 2**63
_INT64_LENGTH = 20


def convert(summary: Mapping[str, Any]) -> Image:
    """Return the image of one entry of the engine's list.

    `Size` is read, not `VirtualSize`: it is the same number where both exist, and the other one is gone from API 1.44
    on (C3). An empty image counts one byte, because clients refuse 0.

    Raises:
        ValueError: the entry has no ID or no size that could be one (C10).
    """
    found = summary.get("Id")
    if not isinstance(found, str):
        raise ValueError("the image has no ID")  # noqa: TRY004 - wrong content, not a wrong argument
    size = summary.get("Size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError("the image has no size")
    tags, digests = _texts(summary.get("RepoTags")), _texts(summary.get("RepoDigests"))
    if is_of_containerd(summary):
        # Every repository has the image under its ID. The list of 26.1 tells one of them only, and not always the same
        # one; its inspect tells all.
        digests += [*tags, *(f"{tag.repository}@{found}" for tag in only_tags(tags))]
    return Image(ImageID.parse(found), only_tags(tags), only_digests(digests), max(1, size))


def unreadable_names(record: Mapping[str, Any]) -> list[str]:
    """Return the names of an image that are no references to us; those that stand for none (C5, C7) are no names."""
    found = [*_texts(record.get("RepoTags")), *_texts(record.get("RepoDigests"))]
    return [name for name in found if not name.startswith(("<none>", "sha256:")) and not is_reference(name)]


def created(summary: Mapping[str, Any]) -> int:
    """Return when an image was made, seconds since the epoch; 0 where the engine does not say.

    Lists tell a number, an inspect tells a text.
    """
    found = summary.get("Created")
    if isinstance(found, str):
        with contextlib.suppress(ValueError):
            return math.floor(datetime.fromisoformat(found).timestamp())
    return found if isinstance(found, int) else 0


def is_of_containerd(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is of the containerd store: there the ID is the digest that the image's names have."""
    names = (*_texts(record.get("RepoTags")), *_texts(record.get("RepoDigests")))
    return any(name.endswith(str(record.get("Id"))) for name in names)


def user_of(inspected: Mapping[str, Any]) -> User | None:
    """Return the user that an inspected image starts as (C4).

    What follows a colon is a group; a decimal number that fits into 64 bits is a user ID, 0 included; anything else is
    a name. Python's own `int` would take white space, underscores and other scripts' digits.
    """
    text = section(inspected, "Config").get("User")
    name = text.partition(":")[0] if isinstance(text, str) else ""
    if not name:
        return None
    # Zeros in front are as good as none, and a number of any length is not worth its reading.
    short = re.sub(r"^([+-]?)0+(?=\d)", r"\1", name) if _INTEGER.fullmatch(name) else ""
    if short and len(short) <= _INT64_LENGTH and -_INT64_LIMIT <= int(short) < _INT64_LIMIT:
        return User(uid=int(short))
    return User(name=repaired(name))


def labels_of(inspected: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of an inspected image; none is empty (S7).

    Half of a surrogate pair becomes U+FFFD, as in Go.
    """
    found = section(inspected, "Config").get("Labels")
    if not isinstance(found, dict):
        return {}
    return {
        repaired(key): repaired(value)
        for key, value in found.items()
        if isinstance(key, str) and isinstance(value, str)
    }


def section(inspected: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object inside an answer; empty where it is null or left out, as newer engines do (C7)."""
    found = inspected.get(key)
    return found if isinstance(found, dict) else {}


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
