"""The engine's images at one moment, and every way to find one among them."""

from __future__ import annotations

import bisect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from criimage.catalogue import qualified
from criimage_docker.engine.records import convert, created

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from criimage.backend import Image
    from criimage.reference import ImageID, Lookup, Reference

    Entry = tuple[int, Image]

__all__ = ["Snapshot", "SnapshotMaker"]

_log = structlog.get_logger(__name__)


class Snapshot:
    """Images as one listing of the engine had them.

    Args:
        entries: when each was made, and the image.

    Attributes:
        images: newest first, images of one moment by ID: the engine's order, made steady (L5).
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(sorted(entries, key=lambda entry: (-entry[0], entry[1].id.hex)))
        self.images = images = tuple(image for _, image in self.entries)
        self._by_id = {image.id.hex: image for image in images}
        self._ids = sorted(self._by_id)
        self._by_name: dict[Reference, Image] = {}
        for image in images:
            for name in (*image.tags, *image.digests):
                self._by_name.setdefault(name, image)

    def with_id(self, digits: str) -> Image | None:
        """Return the image with this whole ID, 64 hexadecimal digits."""
        return self._by_id.get(digits)

    def with_prefix(self, prefix: str) -> Image | None:
        """Return the only image whose ID begins so; none if there are several."""
        at = bisect.bisect_left(self._ids, prefix)
        matches = [digits for digits in self._ids[at : at + 2] if digits.startswith(prefix)]
        return self._by_id[matches[0]] if len(matches) == 1 else None

    def with_name(self, reference: Reference) -> Image | None:
        """Return the image that has this tag or digest."""
        return self._by_name.get(reference)

    def with_pulled(self, reference: Reference, made: int, pulled: Image) -> Snapshot | None:
        """Return the images after a pull; this very snapshot if that changes nothing.

        None if it cannot be told: an image without any name is listed or not, as others are built on it.

        Args:
            reference: which has left whatever other image had it.
            made: when the image was made, seconds since the epoch.
            pulled: the image as it is now.
        """
        entries: list[Entry] = [(made, pulled)]
        for entry in self.entries:
            image = entry[1]
            if image.id == pulled.id:
                continue
            if reference in image.tags:
                image = replace(image, tags=tuple(tag for tag in image.tags if tag != reference))
                if not (image.tags or image.digests):
                    return None
            entries.append((entry[0], image))
        after = Snapshot(entries)
        return self if after.images == self.images else after

    def find(self, lookup: Lookup) -> Image | None:
        """Return the image that a client means (S5, S6): by ID, by name, by prefix of an ID, in the engine's order.

        Raises:
            InvalidRequest: a name that is too long once it is complete.
        """
        if lookup.id is not None:
            return self.with_id(lookup.id.hex)
        found = None if lookup.name is None else self.with_name(qualified(lookup.name))
        if found is None and lookup.id_prefix is not None:
            found = self.with_prefix(lookup.id_prefix)
        return found


class SnapshotMaker:
    """Makes snapshots; an entry that the last listing had too is not converted again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, Image]] = {}
        self._reported: set[str] = set()
        self._last = Snapshot(())

    def make(self, listed: Iterable[Mapping[str, Any]]) -> Snapshot:
        """Return the snapshot of a listing; the very last one if nothing is different.

        An entry that cannot be converted is logged once and left out (L4).
        """
        known: dict[str, tuple[object, Image]] = {}
        entries: dict[ImageID, Entry] = {}
        for summary in listed:
            image = self._image(summary, known)
            if image is not None:
                entries[image.id] = (created(summary), image)
        self._known = known
        snapshot = Snapshot(entries.values())
        if snapshot.images != self._last.images:
            self._last = snapshot
        return self._last

    def replace(self, snapshot: Snapshot) -> None:
        """Take another snapshot for the last one."""
        self._last = snapshot

    def _image(self, summary: Mapping[str, Any], known: dict[str, tuple[object, Image]]) -> Image | None:
        key = str(summary.get("Id"))
        content = (summary.get("RepoTags"), summary.get("RepoDigests"), summary.get("Size"))
        kept = self._known.get(key)
        try:
            image = kept[1] if kept is not None and kept[0] == content else convert(summary)
        except ValueError as error:
            if key not in self._reported:
                self._reported.add(key)
                _log.warning("an image of the engine is left out", image=key, reason=str(error))
            return None
        known[key] = (content, image)
        return image
