"""Turns what backends return into the bytes of answers, each image once.

An image's bytes are kept by its ID and used again while the value is equal; a whole list's bytes while the backend
returns the same tuple. The operator's pins are OR'ed in: `pinned` is the last field of an Image, so it is
appended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage.backend import FilesystemUsage, Image, ImageDetails, Usage, User
    from criimage.pins import Pins

__all__ = ["ImageReplies", "ListTally", "UsageReplies"]

STREAM_BATCH = 3000
"""Images in one message of StreamImages, as CRI-O sends them (S18)."""

_FEW_ANNOTATIONS = 100
_LONG_ANNOTATIONS_KEPT = 16
_STATUSES_KEPT = 1_000
_STATUS_SIZE_KEPT = 4_096

_IMAGES = 1
_PINNED = wire.varint_field(8, 1)


@dataclass(slots=True)
class ListTally:
    """How many lists of the whole store were sent again as they were, and how many were made."""

    kept: int = 0
    made: int = 0


class ImageReplies:
    """Encoded images and lists.

    Args:
        pins: decides which images the operator wants kept.
        tally: is counted in.
    """

    def __init__(self, pins: Pins, tally: ListTally | None = None) -> None:
        self._pins = pins
        self._tally = tally or ListTally()
        self._images: dict[str, tuple[Image, bytes]] = {}
        self._long_annotations: dict[str, tuple[Mapping[str, str], bytes]] = {}
        self._statuses: dict[str, tuple[ImageDetails, bytes]] = {}
        self._list: tuple[Image, ...] | None = None
        self._list_bytes = b""

    def all(self, images: tuple[Image, ...]) -> bytes:
        """Return a ListImagesResponse of the whole store; forgets images that are gone."""
        if images is self._list:
            self._tally.kept += 1
        else:
            self._tally.made += 1
            encoded = b"".join(self._elements(images))
            if len(self._images) > len(images):
                listed = {str(image.id) for image in images}
                self._images = {key: kept for key, kept in self._images.items() if key in listed}
            self._list, self._list_bytes = images, encoded
        return self._list_bytes

    def some(self, images: tuple[Image, ...]) -> bytes:
        """Return a ListImagesResponse of some images."""
        return b"".join(self._elements(images))

    def batches(self, images: tuple[Image, ...]) -> Iterator[bytes]:
        """Yield StreamImagesResponses; none without images."""
        for start in range(0, len(images), STREAM_BATCH):
            yield self.some(images[start : start + STREAM_BATCH])

    def status(self, details: ImageDetails | None) -> bytes:
        """Return an ImageStatusResponse; empty where there is no image."""
        if details is None:
            return b""
        image = details.image
        if details.info:
            return self._encode_status(details) + _map(2, details.info)
        key = str(image.id)
        kept = self._statuses.get(key)
        # By identity: looking is then cheaper than encoding, and what a backend makes anew is only encoded anew.
        if (
            kept is None
            or kept[0].image is not image
            or kept[0].annotations is not details.annotations
            or kept[0].user is not details.user
        ):
            kept = (details, self._encode_status(details))
            if len(self._statuses) >= _STATUSES_KEPT:
                self._statuses.clear()
            if len(kept[1]) <= _STATUS_SIZE_KEPT:
                self._statuses[key] = kept
        return kept[1]

    def _encode_status(self, details: ImageDetails) -> bytes:
        image = details.image
        encoded = _names(image) + _user(details.user) + self._annotations(image, details.annotations) + self._pin(image)
        return wire.length_delimited(1, encoded)

    def _elements(self, images: tuple[Image, ...]) -> Iterator[bytes]:
        for image in images:
            key = str(image.id)
            kept = self._images.get(key)
            if kept is None or kept[0] != image:
                kept = (image, wire.length_delimited(_IMAGES, _names(image) + self._pin(image)))
                self._images[key] = kept
            yield kept[1]

    def _annotations(self, image: Image, annotations: Mapping[str, str]) -> bytes:
        """Encode field 7 of an Image; what is long is encoded once, as long as the backend has the same."""
        if len(annotations) <= _FEW_ANNOTATIONS:
            return wire.length_delimited(7, _map(2, annotations)) if annotations else b""
        key = str(image.id)
        kept = self._long_annotations.pop(key, None)
        if kept is None or (kept[0] is not annotations and kept[0] != annotations):
            kept = (annotations, wire.length_delimited(7, _map(2, annotations)))
        self._long_annotations[key] = kept
        while len(self._long_annotations) > _LONG_ANNOTATIONS_KEPT:
            del self._long_annotations[next(iter(self._long_annotations))]
        return kept[1]

    def _pin(self, image: Image) -> bytes:
        return _PINNED if image.pinned or self._pins.match(image) else b""


def _names(image: Image) -> bytes:
    """Encode fields 1 to 4 of an Image."""
    parts = [wire.text_field(1, str(image.id))]
    parts += [wire.text_field(2, str(tag)) for tag in image.tags]
    parts += [wire.text_field(3, str(digest)) for digest in image.digests]
    parts.append(wire.varint_field(4, max(1, image.size)))
    return b"".join(parts)


def _user(user: User | None) -> bytes:
    """Encode fields 5 and 6 of an Image, which only a status has."""
    if user is not None and user.uid is not None:
        return wire.length_delimited(5, wire.varint_field(1, user.uid))
    return wire.text_field(6, user.name) if user is not None and user.name else b""


def _map(number: int, entries: Mapping[str, str]) -> bytes:
    return b"".join(
        wire.length_delimited(number, wire.text_field(1, key) + wire.text_field(2, value))
        for key, value in sorted(entries.items())
    )


class UsageReplies:
    """ImageFsInfoResponses; the last ones are used again while the figures are equal."""

    def __init__(self) -> None:
        self._kept: dict[bool, tuple[Usage, bytes]] = {}

    def of(self, usage: Usage, *, containers: bool) -> bytes:
        """Return the response; v1alpha2 has no list for containers."""
        kept = self._kept.get(containers)
        if kept is None or kept[0] != usage:
            kept = self._kept[containers] = (usage, _fs_info(usage, containers=containers))
        return kept[1]


def _fs_info(usage: Usage, *, containers: bool) -> bytes:
    encoded = b"".join(wire.length_delimited(1, _filesystem(entry)) for entry in usage.images)
    if containers:
        encoded += b"".join(wire.length_delimited(2, _filesystem(entry)) for entry in usage.containers)
    return encoded


def _filesystem(usage: FilesystemUsage) -> bytes:
    encoded = wire.varint_field(1, usage.timestamp)
    encoded += wire.length_delimited(2, wire.text_field(1, usage.mountpoint))
    # used_bytes is always set: a kubelet dereferences it unseen (cri-protocol 2.8).
    encoded += wire.length_delimited(3, wire.varint_field(1, usage.used_bytes))
    if usage.inodes_used is not None:
        encoded += wire.length_delimited(4, wire.varint_field(1, usage.inodes_used))
    return encoded
