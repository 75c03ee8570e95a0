"""The images of all stores at one time, put together from what was read of their files."""

from __future__ import annotations

import bisect
import functools
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from criimage_containers_storage.store.images import convert, parse_names

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.backend import Image
    from criimage.reference import Reference
    from criimage_containers_storage.store.files import FileIdentity
    from criimage_containers_storage.store.images import Facts
    from criimage_containers_storage.store.records import ImageRecord, LayerRecord

__all__ = ["Layers", "Root", "Snapshot", "Stored", "StoredRecord", "assemble"]

_NAMES_KEPT = 2**16
"""More than a store has images: with fewer, each reading would forget what the next one needs."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One image of the store.

    Attributes:
        image: as clients see it.
        record: as the store has it.
        facts: what its files say, or its record alone where they cannot be read.
        names: the record's names that are its own.
        layers_size: bytes of its layers, or None if unknown (S9).
        images_folder: holds its folder.
        read_only: it lies in an additional store (L12).
        whole: every layer it needs is here and complete.
        pinned: a read-only store has it as well, or alone: it cannot be removed.
    """

    image: Image
    record: ImageRecord
    facts: Facts
    names: tuple[Reference, ...]
    layers_size: int | None
    images_folder: Path
    read_only: bool
    whole: bool
    pinned: bool = False

    @property
    def folder(self) -> Path:
        """Holds its files."""
        return self.images_folder / self.record.id


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All images at one time.

    Attributes:
        images: in the store's order, the writable store first.
        by_id: by the 64 digits of the ID.
        sorted_ids: the same IDs in order.
        by_name: by every tag and digest.
        layers: all layers by ID.
        data_size: bytes of layers and records together, each counted once; an estimate of the disk space.
        hidden: records of the writable store that are no images yet or any more, by ID.
    """

    images: tuple[Image, ...] = ()
    by_id: dict[str, Stored] = field(default_factory=dict)
    sorted_ids: list[str] = field(default_factory=list)
    by_name: dict[Reference, Stored] = field(default_factory=dict)
    layers: dict[str, LayerRecord] = field(default_factory=dict)
    data_size: int = 0
    hidden: dict[str, ImageRecord] = field(default_factory=dict)

    def with_prefix(self, prefix: str) -> Stored | None:
        """Return the only image whose ID begins so (N6)."""
        at = bisect.bisect_left(self.sorted_ids, prefix)
        found = [identity for identity in self.sorted_ids[at : at + 2] if identity.startswith(prefix)]
        return self.by_id[found[0]] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of all stores, and what follows from them; the same value while no layers.json changes."""

    files: tuple[FileIdentity, ...] = ()
    raw: dict[Path, dict[str, tuple[dict[str, Any], LayerRecord]]] = field(default_factory=dict)
    by_id: dict[str, LayerRecord] = field(default_factory=dict)
    sizes: dict[str, int | None] = field(default_factory=lambda: {"": 0})
    whole: set[str] = field(default_factory=lambda: {""})
    size: int = 0


@dataclass(frozen=True, slots=True)
class Root:
    """Where one store has its images."""

    images_folder: Path
    images_file: Path
    layers_file: Path
    read_only: bool


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One image record with what else is known of it.

    Attributes:
        root: of the first store that has it.
        record: of that store.
        facts: of its files.
        shared_names: the names it has in read-only stores; None if none of them has it.
        more_names: the names it has in the other root of a split store.
    """

    root: Root
    record: ImageRecord
    facts: Facts
    shared_names: tuple[str, ...] | None
    more_names: tuple[str, ...] = ()


def assemble(
    before: Snapshot, entries: dict[str, StoredRecord], layers: Layers, hidden: dict[str, ImageRecord]
) -> Snapshot:
    """Return the images of these records; what is as `before` stays the very same value."""
    owners: dict[Reference, str] = {}
    own = {identity: parse_names_cached(one.record.names + one.more_names) for identity, one in entries.items()}
    # The tools show an image of both stores with the names of either (L12, 14).
    named = {
        identity: (*own[identity], *parse_names_cached(one.shared_names or ())) for identity, one in entries.items()
    }
    # The later of two records owns a name (L10), but never a read-only store's over ours.
    for identity in entries:
        owners.update(dict.fromkeys(named[identity], identity))
    # Of a split store's two roots the first one wins (V4).
    writable = [(one.root, identity) for identity, one in entries.items() if not one.root.read_only]
    for root in reversed(dict.fromkeys(root for root, _ in writable)):
        for its_root, identity in writable:
            if its_root == root:
                owners.update(dict.fromkeys(own[identity], identity))
    by_id: dict[str, Stored] = {}
    for identity, one in entries.items():
        record, facts = one.record, one.facts
        names = tuple(name for name in dict.fromkeys(named[identity]) if owners[name] == identity)
        size, whole = layers.sizes.get(record.layer), record.layer in layers.whole
        pinned = one.shared_names is not None
        old = before.by_id.get(identity)
        if (
            old is not None
            and old.record is record
            and old.facts is facts
            and (old.names, old.layers_size, old.whole, old.pinned) == (names, size, whole, pinned)
        ):
            by_id[identity] = old
            continue
        image = convert(record, facts, names, size, pinned=pinned)
        if old is not None and old.image == image:
            image = old.image
        folder, read_only = one.root.images_folder, one.root.read_only
        by_id[identity] = Stored(image, record, facts, names, size, folder, read_only, whole, pinned)
    images = tuple(one.image for one in by_id.values())
    if len(images) == len(before.images) and all(map(operator.is_, images, before.images)):
        images = before.images
    total = layers.size + sum(one.record.data_size for one in by_id.values())
    return Snapshot(images, by_id, sorted(by_id), _names(by_id), layers.by_id, total, hidden)


@functools.lru_cache(maxsize=_NAMES_KEPT)
def parse_names_cached(names: tuple[str, ...]) -> tuple[Reference, ...]:
    """Read stored names; most are the same at every reading."""
    return tuple(dict.fromkeys(parse_names(names)))


def _names(by_id: dict[str, Stored]) -> dict[Reference, Stored]:
    # S17. Two images may hold one index: the one that carries the digest as its name is meant, else the one whose own
    # manifest it is, else the first.
    found: dict[Reference, Stored] = {}
    for one in by_id.values():
        for name in one.image.digests:
            found.setdefault(name, one)
    for one in by_id.values():
        found.update({name: one for name in one.image.digests if name.digest == one.record.manifest_digest})
    for one in by_id.values():
        found.update(dict.fromkeys(one.names, one))
    return found
