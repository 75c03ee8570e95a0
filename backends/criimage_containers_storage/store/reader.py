"""The images of a store, read from its files and kept until a file changes.

No lock is taken, shared or other: the store's files are replaced by rename, so each read sees one complete state (L4),
while any lock of ours would hold up every tool that starts (L8) and its own would hold us up for as long as a layer is
unpacked (L9). Images are read before layers, as layers are written before images (L7): a record that is seen has its
layers unless it is being removed.

A record whose files cannot be read is one of two things. A file that is missing may be one that a tool has not written
yet or has just deleted: the record is left out without a word and looked at again soon, as long as its folder or
images.json has changed within the last seconds (L10). After that it is damaged, and so is at once a record whose files
are there but are not what they should be, for the tools write each of them whole. A damaged image is listed and found
with what its record says, its ID, names, digests and size: what nobody sees nobody can remove (S18).
"""

from __future__ import annotations

import asyncio
import bisect
import functools
import operator
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import structlog

from criimage_containers_storage.store.images import bare_facts, convert, parse_names, read_facts
from criimage_containers_storage.store.records import (
    LayerRecord,
    chain_sizes,
    read_image,
    read_layer,
    read_raw,
    whole_chains,
)

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.backend import Image
    from criimage.reference import Reference
    from criimage_containers_storage.store.images import Facts
    from criimage_containers_storage.store.records import ImageRecord
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Snapshot", "Store", "Stored"]

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.5
_DAMAGED_SECONDS = 5.0
_NAMELESS_SECONDS = 1.0
# The tools write a record's files within milliseconds; a slow disk may hold each of them up.
_WRITING_SECONDS = 5.0

FileIdentity = tuple[int, int, int, int] | None


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
    """

    image: Image
    record: ImageRecord
    facts: Facts
    names: tuple[Reference, ...]
    layers_size: int | None
    images_folder: Path
    read_only: bool
    whole: bool

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
    """

    images: tuple[Image, ...] = ()
    by_id: dict[str, Stored] = field(default_factory=dict)
    sorted_ids: list[str] = field(default_factory=list)
    by_name: dict[Reference, Stored] = field(default_factory=dict)
    layers: dict[str, LayerRecord] = field(default_factory=dict)
    data_size: int = 0

    def with_prefix(self, prefix: str) -> Stored | None:
        """Return the only image whose ID begins so (N6)."""
        at = bisect.bisect_left(self.sorted_ids, prefix)
        found = [identity for identity in self.sorted_ids[at : at + 2] if identity.startswith(prefix)]
        return self.by_id[found[0]] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class _Layers:
    """The layers of all stores, and what follows from them; the same value while no layers.json changes."""

    files: tuple[FileIdentity, ...]
    by_id: dict[str, LayerRecord]
    sizes: dict[str, int | None]
    whole: set[str]
    size: int


@dataclass(slots=True)
class _Root:
    images_folder: Path
    images_file: Path
    layers_file: Path
    read_only: bool


class Store:
    """Reads one store and the read-only ones beside it."""

    def __init__(self, layout: Layout) -> None:
        self._roots = [
            _Root(
                root / f"{layout.driver}-images",
                root / f"{layout.driver}-images" / "images.json",
                root / f"{layout.driver}-layers" / "layers.json",
                read_only,
            )
            for root, read_only in [(layout.root, False), *((path, True) for path in layout.additional)]
        ]
        self._watched = [str(file) for root in self._roots for file in (root.images_file, root.layers_file)]
        self._identities: list[FileIdentity] | None = None
        self._snapshot = Snapshot()
        self._read_again = float("inf")
        self._reading = asyncio.Lock()
        self._raw: dict[Path, dict[str, tuple[dict[str, Any], ImageRecord]]] = {}
        self._raw_layers: dict[Path, dict[str, tuple[dict[str, Any], LayerRecord]]] = {}
        self._layers = _Layers((), {}, {"": 0}, {""}, 0)
        self._facts: dict[tuple[Path, str], tuple[ImageRecord, Facts]] = {}
        self._damaged: dict[tuple[Path, str], tuple[ImageRecord, Facts]] = {}
        self._complained: set[tuple[str, str]] = set()

    async def snapshot(self) -> Snapshot:
        """Return the images as they are now: the very same value while no file has changed."""
        if self._fresh():
            return self._snapshot
        async with self._reading:
            # Whoever had to wait may find it done; what changed since must still be seen by callers that came later.
            if not self._fresh():
                await anyio.to_thread.run_sync(self._read)
            return self._snapshot

    def _fresh(self) -> bool:
        # A handful of stats of files that are always in the kernel's cache: about a microsecond each, where a thread
        # would cost a hundred. lstat, because the tools replace these files and never link them.
        return self._identities == [_identity(file) for file in self._watched] and time.monotonic() < self._read_again

    def _read(self) -> None:
        # Before the reading: what is written meanwhile makes the next call read again.
        identities = [_identity(file) for file in self._watched]
        again = float("inf")
        records: dict[str, tuple[_Root, ImageRecord]] = {}
        for root in self._roots:
            found, complete = self._read_records(root)
            again = again if complete else _RETRY_SECONDS
            for identity, record in found.items():
                records.setdefault(identity, (root, record))  # L12: the writable store's own record wins
        layers = self._layers = self._read_layers()
        readable = {}
        for identity, (root, record) in records.items():
            facts, seconds = self._facts_of(root, record)
            if facts is None or _unnamed_yet(root, record):
                again = _RETRY_SECONDS
            else:
                again = min(again, seconds)
                readable[identity] = (root, record, facts)
        self._facts = {key: value for key, value in self._facts.items() if key[1] in records}
        self._damaged = {key: value for key, value in self._damaged.items() if key[1] in records}
        self._snapshot = self._assemble(readable, layers)
        self._identities = identities
        self._read_again = time.monotonic() + again

    def _tolerant(self, file: Path) -> tuple[list[dict[str, Any]], bool]:
        try:
            return read_raw(file), True
        except (OSError, ValueError) as error:
            self._complain(str(file), type(error).__name__, "part of the store cannot be read and is left out")
            return [], False

    def _read_records(self, root: _Root) -> tuple[dict[str, ImageRecord], bool]:
        # Records that are as before keep their parsed value: comparing is far cheaper than parsing.
        raw, complete = self._tolerant(root.images_file)
        before = self._raw.get(root.images_folder, {})
        now: dict[str, tuple[dict[str, Any], ImageRecord]] = {}
        for entry in raw:
            known = before.get(entry.get("id", "")) if isinstance(entry.get("id"), str) else None
            record = known[1] if known is not None and known[0] == entry else read_image(entry)
            if record is not None and record.id not in now:
                now[record.id] = (entry, record)
        if not complete and not now:
            now = before
        self._raw[root.images_folder] = now
        return {identity: record for identity, (_, record) in now.items()}, complete

    def _read_layers(self) -> _Layers:
        # Images come, go and change their names more often than layers do. Layers that are as before keep their value.
        files = tuple(_identity(str(root.layers_file)) for root in self._roots)
        if files == self._layers.files:
            return self._layers
        by_id: dict[str, LayerRecord] = {}
        complete = True
        for root in reversed(self._roots):
            raw, readable = self._tolerant(root.layers_file)
            complete &= readable
            before = self._raw_layers.get(root.layers_file, {})
            now = {}
            for entry in raw:
                name = entry.get("id")
                if isinstance(name, str):
                    known = before.get(name)
                    now[name] = known if known is not None and known[0] == entry else (entry, read_layer(entry))
            self._raw_layers[root.layers_file] = now
            by_id |= {name: layer for name, (_, layer) in now.items()}
        size = sum(layer.size or 0 for layer in by_id.values())
        return _Layers(files if complete else (), by_id, chain_sizes(by_id), whole_chains(by_id), size)

    def _facts_of(self, root: _Root, record: ImageRecord) -> tuple[Facts | None, float]:
        """Return what is known of an image, or None if it is not one yet or any more; and when to look again."""
        key = (root.images_folder, record.id)
        known = self._facts.get(key)
        if known is not None and _same_files(known[0], record):
            return known[1], float("inf")
        # A damaged one is looked at each time: a new pull writes the same files again.
        damaged = self._damaged.pop(key, None)
        was_damaged = damaged is not None and _same_files(damaged[0], record)
        folder = root.images_folder / record.id
        try:
            facts = read_facts(folder, record)
        except OSError as error:
            if not was_damaged and _changed_lately(root, folder):
                return None, _RETRY_SECONDS
            fault, seconds = error.strerror or type(error).__name__, _DAMAGED_SECONDS
        except ValueError as error:
            fault, seconds = str(error), float("inf")
        else:
            self._facts[key] = (record, facts)
            return facts, float("inf")
        facts = bare_facts(folder, record, fault)
        if damaged is not None and damaged[1] == facts:
            facts = damaged[1]
        self._damaged[key] = (record, facts)
        self._complain(record.id, fault, "an image cannot be read; it is listed with what its record says")
        return facts, seconds

    def _complain(self, what: str, why: str, text: str) -> None:
        if (what, why) not in self._complained:
            self._complained.add((what, why))
            _log.warning(text, what=what, error=why)

    def _assemble(self, records: dict[str, tuple[_Root, ImageRecord, Facts]], layers: _Layers) -> Snapshot:
        owners: dict[Reference, str] = {}
        named = {identity: parse_names_cached(record.names) for identity, (_, record, _) in records.items()}
        # The later of two records owns a name (L10), but never a read-only store's over ours.
        for writable in (False, True):
            for identity, (root, _, _) in records.items():
                if root.read_only is not writable:
                    owners.update(dict.fromkeys(named[identity], identity))
        before = self._snapshot
        by_id: dict[str, Stored] = {}
        for identity, (root, record, facts) in records.items():
            names = tuple(name for name in named[identity] if owners[name] == identity)
            size, whole = layers.sizes.get(record.layer), record.layer in layers.whole
            old = before.by_id.get(identity)
            if (
                old is not None
                and old.record is record
                and old.facts is facts
                and (old.names, old.layers_size, old.whole) == (names, size, whole)
            ):
                by_id[identity] = old
                continue
            image = convert(record, facts, names, size)
            if old is not None and old.image == image:
                image = old.image
            by_id[identity] = Stored(image, record, facts, names, size, root.images_folder, root.read_only, whole)
        images = tuple(one.image for one in by_id.values())
        if len(images) == len(before.images) and all(map(operator.is_, images, before.images)):
            images = before.images
        total = layers.size + sum(one.record.data_size for one in by_id.values())
        return Snapshot(images, by_id, sorted(by_id), _names(by_id), layers.by_id, total)


@functools.lru_cache(maxsize=8192)
def parse_names_cached(names: tuple[str, ...]) -> tuple[Reference, ...]:
    """Read stored names; most are the same at every reading."""
    return tuple(dict.fromkeys(parse_names(names)))


def _identity(file: str) -> FileIdentity:
    try:
        found = os.lstat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _changed_lately(root: _Root, folder: Path) -> bool:
    changed = [found[1] for found in map(_identity, (str(root.images_file), str(folder))) if found is not None]
    return bool(changed) and 0 <= time.time() - max(changed) / 1e9 < _WRITING_SECONDS


def _unnamed_yet(root: _Root, record: ImageRecord) -> bool:
    # A pull writes the record and, in a separate step moments later, its name. Shown in between, it would look like an
    # image that nobody wants.
    if record.names or record.history:
        return False
    try:
        age = time.time() - (root.images_folder / record.id / "manifest").stat().st_mtime
    except OSError:
        return False
    return 0 <= age < _NAMELESS_SECONDS


def _same_files(one: ImageRecord, other: ImageRecord) -> bool:
    # L11. In the same order too, as it tells which manifest came first.
    return one is other or (
        one.layer == other.layer and list(one.data_digests.items()) == list(other.data_digests.items())
    )


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
