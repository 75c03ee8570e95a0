"""Which images the operator wants kept, by patterns as CRI-O's `pinned_images` (cri-o S12)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from criimage.backend import Image

__all__ = ["Pins"]


class Pins:
    """A set of patterns; all of them ignore case.

    `*word*` finds the word anywhere in a name, `word*` finds it anywhere with anything behind it (CRI-O does not
    anchor it), everything else is a whole name.

    Args:
        patterns: as in the settings.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [_compiled(pattern) for pattern in patterns if pattern]

    def match(self, image: Image) -> bool:
        """Tell whether any of the image's names matches any pattern."""
        if not self._patterns:
            return False
        names = [str(name) for name in (*image.tags, *image.digests)]
        return any(pattern.search(name) for pattern in self._patterns for name in names)


def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.startswith("*") and pattern.endswith("*"):
        expression = re.escape(pattern.strip("*"))
    elif pattern.endswith("*"):
        expression = re.escape(pattern.removesuffix("*"))
    else:
        expression = rf"\A{re.escape(pattern)}\Z"
    return re.compile(expression, re.IGNORECASE)
