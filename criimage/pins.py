"""Which images the operator wants kept, by patterns as CRI-O's `pinned_images` (cri-o S12)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from criimage.errors import InvalidRequest
from criimage.reference import DEFAULT_DOMAIN, Name, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from criimage.backend import Image

__all__ = ["Pins", "never_matching"]

_FEW = 64
_TOLD = 8
"""Patterns that are told one by one."""
_WORD = re.compile(r"[A-Za-z0-9._:/@\[\]-]*")


class Pins:
    """A set of patterns; all of them ignore case.

    `*word*` finds the word anywhere in a name, `word*` finds it anywhere with anything behind it (CRI-O does not
    anchor it), everything else is a whole name. A hundred thousand whole names cost a look-up, not a look at each.

    Args:
        patterns: as in the settings.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        names: set[str] = set()
        words: set[str] = set()
        for pattern in patterns:
            if not pattern:
                continue
            if not pattern.endswith("*"):
                names.add(pattern.lower())
            elif pattern.startswith("*"):
                words.add(pattern.strip("*").lower())
            else:
                words.add(pattern.removesuffix("*").lower())
        self._names = frozenset(names)
        # Names of images are printable ASCII: no pattern with other signs can match one.
        self._words = frozenset(word for word in words if word.isascii() and word.isprintable())
        self._lengths = tuple(sorted({len(word) for word in self._words}))

    def match(self, image: Image) -> bool:
        """Tell whether any of the image's names matches any pattern."""
        if not (self._names or self._words):
            return False
        names = [str(name).lower() for name in (*image.tags, *image.digests)]
        if not self._names.isdisjoint(names):
            return True
        if len(self._words) <= _FEW:
            return any(word in name for word in self._words for name in names)
        return any(map(self._holds_a_word, names))

    def _holds_a_word(self, name: str) -> bool:
        # All parts of a name are fewer than the words may be: names have an end, a list of words has none.
        return any(
            name[start : start + length] in self._words
            for length in self._lengths
            for start in range(len(name) - length + 1)
        )


def never_matching(patterns: Iterable[str]) -> Iterator[str]:
    """Yield what an operator should know of patterns that no image's name can match, the first ones each by itself."""
    found = [fault for pattern in patterns if (fault := _fault_of(pattern))]
    yield from found[:_TOLD]
    if len(found) > _TOLD:
        yield f"pinned_images: {len(found) - _TOLD} more can match no image"


def _fault_of(pattern: str) -> str:
    said = f"pinned_images: {shown(pattern)} can match no image"
    if pattern.endswith("*"):
        word = pattern.removesuffix("*").removeprefix("*")
        return "" if _WORD.fullmatch(word) else f"{said}: no name has such signs"
    for spelled in (pattern, pattern.lower()):  # names and patterns are compared without regard to case
        try:
            name = Name.parse(spelled)
            complete = str(name.qualified(name.domain or DEFAULT_DOMAIN))
        except InvalidRequest:
            continue
        return "" if complete == spelled else f"{said}: names are complete, such as {complete}"
    return f"{said}: it is no name"
