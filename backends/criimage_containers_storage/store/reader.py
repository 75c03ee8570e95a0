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
import contextlib
import errno
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from criimage.errors import OperationFailed
from criimage.rounds import Rounds
from criimage_containers_storage.store.files import RecordsFile, Seen
from criimage_containers_storage.store.images import bare_facts, read_facts
from criimage_containers_storage.store.in_use import read_strictly
from criimage_containers_storage.store.records import (
    LayerRecord,
    chain_sizes,
    read_image,
    read_layer,
    whole_chains,
)
from criimage_containers_storage.store.snapshot import Layers, Root, Snapshot, StoredRecord, assemble

if TYPE_CHECKING:
    from pathlib import Path

    from criimage_containers_storage.store.images import Facts
    from criimage_containers_storage.store.records import ImageRecord
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Store"]

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.5
_DAMAGED_SECONDS = 5.0
_NAMELESS_SECONDS = 1.0
# The tools write a record's files within milliseconds; a slow disk may hold each of them up.
_WRITING_SECONDS = 5.0

# What a process can have too many of says nothing about a file.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


Known = dict[tuple["Path", str], tuple["ImageRecord", "Facts"]]


@dataclass(frozen=True, slots=True)
class _State:
    """Everything that was read at one time.

    Attributes:
        seen: the files it was read from; None before the first reading.
        snapshot: what follows from it.
        read_again: when to look again although no file has changed, in seconds of the monotonic clock.
        raw: the records as they are in the files, with what was read from them.
        layers: see `Layers`.
        facts: of images whose files could be read.
        damaged: of images whose files could not.
    """

    seen: Seen | None = None
    snapshot: Snapshot = field(default_factory=Snapshot)
    read_again: float = float("inf")
    raw: dict[Path, dict[str, tuple[dict[str, Any], ImageRecord]]] = field(default_factory=dict)
    layers: Layers = field(default_factory=Layers)
    facts: Known = field(default_factory=dict)
    damaged: Known = field(default_factory=dict)


class Store:
    """Reads one store and the read-only ones beside it."""

    def __init__(self, layout: Layout) -> None:
        self._roots = [
            Root(
                root / f"{layout.driver}-images",
                root / f"{layout.driver}-images" / "images.json",
                root / f"{layout.driver}-layers" / "layers.json",
                read_only,
            )
            for paths, read_only in ((layout.writable_roots, False), (layout.additional, True))
            for root in paths
        ]
        self._layers_files = [RecordsFile(root.layers_file) for root in self._roots]
        self._files = [*(RecordsFile(root.images_file) for root in self._roots), *self._layers_files]
        self._state = _State()
        self._fault: OperationFailed | None = None
        # In tasks of its own: a caller that gives up must not let a second reading in beside its thread.
        self._readings = Rounds(self._read, "read the store")
        # Of its own: pulls whose files hang may have all the others, and lists go on all the same.
        self._thread = ThreadPoolExecutor(1, "read the store")
        self._complained: set[tuple[str, str]] = set()

    async def snapshot(self) -> Snapshot:
        """Return the images as they are now: the very same value while no file has changed.

        While a file cannot be read it is what was there before, for lists and statuses; see `now`.

        Raises:
            OperationFailed: a file cannot be read, and nothing is known yet.
        """
        await self._look()
        if self._fault is not None and self._state.seen is None:
            raise self._fault.for_another_waiter()
        return self._state.snapshot

    async def now(self) -> Snapshot:
        """Return the images as they are now, for whoever is about to decide by them.

        Raises:
            OperationFailed: a file cannot be read: nothing may be concluded from what is not seen.
        """
        await self._look()
        if self._fault is not None:
            raise self._fault.for_another_waiter()
        return self._state.snapshot

    async def _look(self) -> None:
        # One reading that has begun after the call is enough, even if a file has changed again by its end: where tools
        # write all the time nobody would ever see the last change.
        if not self._fresh():
            await self._readings.answer()

    def _fresh(self) -> bool:
        # A handful of system calls on files that are always in the kernel's cache: a few microseconds, where a thread
        # would cost a hundred.
        state = self._state
        return (
            self._fault is None
            and state.seen is not None
            and state.seen.unchanged()
            and time.monotonic() < state.read_again
        )

    async def _read(self) -> None:
        if self._fresh():
            return  # an earlier caller's reading has seen it all
        old = self._state
        try:
            self._state = await asyncio.get_running_loop().run_in_executor(self._thread, self._next_state, old)
        except OperationFailed as error:
            # The old state stays until a new one is whole.
            if self._fault is None or self._fault.text != error.text:
                _log.warning("the store cannot be read now; what was read before goes on counting", error=error.text)
            self._fault = error
        else:
            self._fault = None

    def _next_state(self, old: _State) -> _State:
        """Return the state of the files as they are now. Blocks.

        Raises:
            OperationFailed: one of them cannot be read.
        """
        # Before the reading: what is written meanwhile makes the next call read again.
        seen = Seen(self._files)
        raw = {root.images_folder: _read_records(root, old.raw.get(root.images_folder, {})) for root in self._roots}
        layers = self._read_layers(old.layers)
        records: dict[str, tuple[Root, ImageRecord]] = {}
        shared: dict[str, tuple[str, ...]] = {}
        more: dict[str, tuple[str, ...]] = {}
        for root in self._roots:
            for identity, (_, record) in raw[root.images_folder].items():
                records.setdefault(identity, (root, record))  # L12: the writable store's own record wins
                if root.read_only:
                    shared[identity] = (*shared.get(identity, ()), *record.names)
                elif records[identity][0] is not root:
                    more[identity] = record.names
        again = float("inf")
        facts: Known = {}
        damaged: Known = {}
        readable, hidden = {}, {}
        for identity, (root, record) in records.items():
            found, seconds = self._facts_of(root, record, old, facts, damaged)
            if found is None or _unnamed_yet(root, record):
                again = min(again, _RETRY_SECONDS)
                if not root.read_only:
                    hidden[identity] = record
            else:
                again = min(again, seconds)
                readable[identity] = StoredRecord(root, record, found, shared.get(identity), more.get(identity, ()))
        snapshot = assemble(old.snapshot, readable, layers, hidden)
        return _State(seen, snapshot, time.monotonic() + again, raw, layers, facts, damaged)

    def _read_layers(self, old: Layers) -> Layers:
        # Images come, go and change their names more often than layers do. Layers that are as before keep their value.
        files = tuple(file.identity() for file in self._layers_files)
        if files == old.files:
            return old
        raw: dict[Path, dict[str, tuple[dict[str, Any], LayerRecord]]] = {}
        by_id: dict[str, LayerRecord] = {}
        for root in reversed(self._roots):
            before = old.raw.get(root.layers_file, {})
            now = raw[root.layers_file] = {}
            for entry in read_strictly(root.layers_file):
                name = entry.get("id")
                if isinstance(name, str):
                    known = before.get(name)
                    now[name] = known if known is not None and known[0] == entry else (entry, read_layer(entry))
            by_id |= {name: layer for name, (_, layer) in now.items()}
        size = sum(layer.size or 0 for layer in by_id.values())
        return Layers(files, raw, by_id, chain_sizes(by_id), whole_chains(by_id), size)

    def _facts_of(
        self, root: Root, record: ImageRecord, old: _State, facts: Known, damaged: Known
    ) -> tuple[Facts | None, float]:
        """Return what is known of an image, or None if it is not one yet or any more; and when to look again.

        Raises:
            OperationFailed: this process cannot open files now, which says nothing about the image.
        """
        key = (root.images_folder, record.id)
        known = old.facts.get(key)
        if known is not None and _same_files(known[0], record):
            facts[key] = known
            return known[1], float("inf")
        # A damaged one is looked at each time: a new pull writes the same files again.
        before = old.damaged.get(key)
        was_damaged = before is not None and _same_files(before[0], record)
        folder = root.images_folder / record.id
        unread = False
        try:
            found = read_facts(folder, record)
        except OSError as error:
            if error.errno in _OURS:
                raise OperationFailed(f"cannot read {error.filename or folder}: {error.strerror}") from error
            unread = not isinstance(error, FileNotFoundError)
            if not unread and not was_damaged and _changed_lately(root, folder):
                return None, _RETRY_SECONDS
            fault, seconds = error.strerror or type(error).__name__, _DAMAGED_SECONDS
        except ValueError as error:
            fault, seconds = str(error), float("inf")
        else:
            facts[key] = (record, found)
            return found, float("inf")
        found = bare_facts(folder, record, fault, unread=unread)
        if before is not None and before[1] == found:
            found = before[1]
        damaged[key] = (record, found)
        self._complain(record.id, fault, "an image cannot be read; it is listed with what its record says")
        return found, seconds

    def _complain(self, what: str, why: str, text: str) -> None:
        if (what, why) not in self._complained:
            self._complained.add((what, why))
            _log.warning(text, what=what, error=why)


def _read_records(
    root: Root, before: dict[str, tuple[dict[str, Any], ImageRecord]]
) -> dict[str, tuple[dict[str, Any], ImageRecord]]:
    # Records that are as before keep their parsed value: comparing is far cheaper than parsing.
    now: dict[str, tuple[dict[str, Any], ImageRecord]] = {}
    for entry in read_strictly(root.images_file):
        known = before.get(entry.get("id", "")) if isinstance(entry.get("id"), str) else None
        record = known[1] if known is not None and known[0] == entry else read_image(entry)
        if record is not None and record.id not in now:
            now[record.id] = (entry, record)
    return now


def _changed_lately(root: Root, folder: Path) -> bool:
    changed = []
    for file in (root.images_file, folder):
        with contextlib.suppress(OSError):
            changed.append(file.stat().st_mtime)
    return bool(changed) and 0 <= time.time() - max(changed) < _WRITING_SECONDS


def _unnamed_yet(root: Root, record: ImageRecord) -> bool:
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
    return one is other or (one.layer, one.data_digests, one.data_names) == (
        other.layer,
        other.data_digests,
        other.data_names,
    )
