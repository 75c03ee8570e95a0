"""Finding images in a list, for backends that hold all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.reference import DEFAULT_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from criimage.backend import Image
    from criimage.reference import Lookup, Name, Pattern, Reference

__all__ = ["find", "matching", "qualified"]


def qualified(name: Name) -> Reference:
    """Return the one reference that a name means where a name without a registry means docker.io's.

    Raises:
        InvalidRequest: the name becomes too long.
    """
    return name.qualified(name.domain or DEFAULT_DOMAIN)


def find(images: Iterable[Image], lookup: Lookup) -> Image | None:
    """Return the image that a lookup finds: by ID, by the beginning of one, by tag or digest.

    A beginning that several images share finds none of them. What is the beginning of an ID and a name is read as the
    former, as CRI-O does (cri-o N6, S16). A name without a registry means docker.io's.
    """
    listed = tuple(images)
    if lookup.id is not None:
        return next((one for one in listed if one.id == lookup.id), None)
    if lookup.id_prefix is not None:
        found = [one for one in listed if one.id.hex.startswith(lookup.id_prefix)]
        if len(found) == 1:
            return found[0]
    if lookup.name is None:
        return None
    wanted = qualified(lookup.name)
    return next((one for one in listed if wanted in one.tags or wanted in one.digests), None)


def matching(images: Iterable[Image], pattern: Pattern) -> tuple[Image, ...]:
    """Return what a pattern lists: the image that its lookup finds. A glob finds nothing."""
    found = find(images, pattern.lookup) if pattern.lookup is not None else None
    return () if found is None else (found,)
