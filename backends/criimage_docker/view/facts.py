"""What only an inspect tells of an image, kept for as long as it stays true.

A graph driver's image is what its ID is the digest of, for ever. In the containerd store an ID may stand for an index,
and what it means here changes when another platform of it is pulled or removed: then the user is another one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criimage.reference import ImageID
from criimage_docker.engine.records import is_of_containerd, section, user_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.backend import User
    from criimage_docker.view.view import View

__all__ = ["Facts", "FactsKeeper"]

_KEPT = 10_000
_FOR_EVER = -1
_NAMES = frozenset({"RepoTags", "RepoDigests", "Metadata"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What an inspect told.

    Attributes:
        user: as which the image starts; None where it does not say.
        layers: how many it has.
        content: a hash of all that it told but the names and when the last one was given.
    """

    user: User | None
    layers: int
    content: bytes


class FactsKeeper:
    """Keeps facts by ID.

    Args:
        view: tells when images may have changed.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._kept: dict[ImageID, tuple[int, Facts]] = {}

    def of(self, image: ImageID) -> Facts | None:
        """Return what is known and still true."""
        generation, facts = self._kept.get(image, (_FOR_EVER, None))
        current = generation == _FOR_EVER or (self._view.trusted and generation == self._view.generation)
        return facts if current else None

    def same(self, inspected: Mapping[str, Any]) -> bool:
        """Tell whether an image is what it was when it was last inspected, and that still counts."""
        try:
            facts = self.of(ImageID.parse(str(inspected.get("Id"))))
        except ValueError:
            return False
        return facts is not None and facts.content == _content(inspected)

    def learn(self, image: ImageID, inspected: Mapping[str, Any], generation: int) -> Facts:
        """Keep what an inspect tells.

        Args:
            image: was inspected.
            inspected: the engine's answer.
            generation: of the view, before the engine was asked.
        """
        layers = section(inspected, "RootFS").get("Layers")
        count = len(layers) if isinstance(layers, list) else 0
        facts = Facts(user_of(inspected), count, _content(inspected))
        # Without a name a record does not show which store it is of.
        named = bool(inspected.get("RepoTags") or inspected.get("RepoDigests"))
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        stays = named and not is_of_containerd(inspected)
        self._kept[image] = (_FOR_EVER if stays else generation, facts)
        return facts


def _content(inspected: Mapping[str, Any]) -> bytes:
    kept = {key: value for key, value in inspected.items() if key not in _NAMES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).digest()
