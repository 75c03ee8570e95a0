"""What pulls that came to nothing leave in the store, and how it is taken back.

A copy that is ended while it commits leaves a record without a name, which nobody could use; a copy that fails leaves
the layers that were complete by then. A retry uses these layers, and they go with the image it makes. Without a retry
nothing lists them, so nobody frees them: they are given back after a while, and at once where the disk was full.

Only what the very copy wrote is touched: what was there before it is never ours, and neither is what somebody uses by
then, or may count on: another copy of ours that has touched it, another tool that is at work on the store (`busy`).
What cannot be taken back now is tried again later. The store's tools give a layer back only with an image, so an image
is made of them and removed again; skopeo alone does both.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import hashlib
import json
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import structlog

from criimage.errors import OperationFailed
from criimage.reference import ImageID
from criimage_containers_storage.finishing import finish, settled
from criimage_containers_storage.pulling.failures import last_words, tidy
from criimage_containers_storage.pulling.orphans import end_orphans
from criimage_containers_storage.store.busy import lock_use, other_tools
from criimage_containers_storage.store.in_use import read_in_use, read_only_layers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from criimage_containers_storage.pulling.changes import StoreChanges
    from criimage_containers_storage.pulling.journal import Entry, Journal
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.store.access import StoreAccess
    from criimage_containers_storage.store.in_use import InUse
    from criimage_containers_storage.store.records import LayerRecord
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Leftovers", "unused_chains"]

_log = structlog.get_logger(__name__)

WAIT_SECONDS = 900.0
"""So long a retry may be in coming: kubelet's are five minutes apart at most."""

LOOK_SECONDS = 10.0
"""Between two looks at what is left."""

_TRIES = 100
_TOOL_SECONDS = 100.0
"""Pulls wait meanwhile: a tool that the store keeps waiting for longer is stopped, and it is tried again."""
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_CHAINS = 200

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
# What a pull writes to an image's record; what else is in one was put there by somebody.
_WRITTEN_BY_PULLS = ("manifest", "sha256:", "signature")


class Leftovers:
    """Takes back what copies into one store have left.

    Args:
        layout: the store.
        skopeo: makes images of layers.
        changes: deletes images.
        access: keeps copies and deletions apart.
        journal: what was there before each copy.
    """

    def __init__(
        self,
        layout: Layout,
        skopeo: Skopeo,
        changes: StoreChanges,
        access: StoreAccess,
        journal: Journal,
    ) -> None:
        self._layout = layout
        self._skopeo = skopeo
        self._changes = changes
        self._access = access
        self._journal = journal

    async def take_over(self) -> None:
        """Take over what a killed server has left; its tools are ended first."""
        for entry in await anyio.to_thread.run_sync(self._journal.take_over):
            await anyio.to_thread.run_sync(end_orphans, Path(entry.work), self._layout)
            if entry.ended is None:
                await anyio.to_thread.run_sync(self._journal.end, entry)

    async def begin(self, work: Path) -> Entry:
        """Write down that a copy begins; see `Journal.begin`.

        Raises:
            OperationFailed: the store may not be written.
            OSError: no space.
        """
        made = asyncio.create_task(anyio.to_thread.run_sync(self._journal.begin, work))
        cancelled = await settled(made)
        try:
            entry = made.result()
        except OSError as error:
            if error.errno in _READ_ONLY:
                # Where is for whoever runs the machine, not for whoever pulls.
                _log.warning("the store cannot be written", file=str(error.filename), error=error.strerror)
                raise OperationFailed(f"the store cannot be written: {error.strerror}") from error
            raise
        if cancelled:
            await finish(anyio.to_thread.run_sync(self._journal.forget, entry))
            raise asyncio.CancelledError
        return entry

    async def nothing_left(self, entry: Entry) -> None:
        """Take notice that a copy came to its end with all it wrote in use."""
        await anyio.to_thread.run_sync(self._journal.forget, entry)

    async def watch(self) -> None:
        """Take back what is due, again and again, until cancelled."""
        while True:
            for entry in self._journal.ended():
                due = abs(time.time() - (entry.ended or 0)) >= WAIT_SECONDS
                await finish(self._settle(entry, layers=due))
            await asyncio.sleep(LOOK_SECONDS)

    async def after(self, entry: Entry, *, at_once: bool = False) -> None:
        """Look at what a copy has left that came to nothing.

        Args:
            entry: of the copy.
            at_once: its layers as well: the disk is full.
        """
        if not await anyio.to_thread.run_sync(entry.blobs):
            await anyio.to_thread.run_sync(self._journal.forget, entry)  # it wrote nothing
            return
        await anyio.to_thread.run_sync(functools.partial(self._journal.end, entry, at_once=at_once))
        await self._settle(entry, layers=at_once)

    async def _settle(self, entry: Entry, *, layers: bool) -> None:
        """Take back the record that a copy has left, and its layers if they are due; forget it if nothing is left.

        Failing is no more than a line in the log: the pull that failed has its own error to tell.
        """
        try:
            if not layers and not await self._has_record(entry):
                return
            async with self._access.exclusive():
                settled = await self._record_is_settled(entry)
                if settled and layers:
                    settled = await self._layers_are_settled(entry)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            _log.warning("what a failed pull left could not be taken back", error=str(error))
            settled = False
        if settled and layers:
            await anyio.to_thread.run_sync(self._journal.forget, entry)
        elif not settled and layers:
            entry.tries += 1
            if entry.tries >= _TRIES:
                _log.warning("layers of a failed pull are left in the store: it is never at rest")
                await anyio.to_thread.run_sync(self._journal.forget, entry)

    async def _has_record(self, entry: Entry) -> bool:
        if not entry.made and not await anyio.to_thread.run_sync(entry.image):
            return False
        users = await self._users()
        own = await anyio.to_thread.run_sync(_own_record, entry, users)
        return bool(own) or any(users.image(one) is not None for one in entry.made)

    async def _record_is_settled(self, entry: Entry) -> bool:
        """Delete the nameless record that a copy has left, if it is proven to be its own; False: look again later."""
        if not await self._unnamed(entry):
            return True
        if await self._others():
            return False
        # Looked for once more: a tool that is gone by now may have given it its name in the last moment.
        for identity in await self._unnamed(entry):
            async with asyncio.timeout(_TOOL_SECONDS):
                await self._changes.delete(identity)
        return True

    async def _unnamed(self, entry: Entry) -> list[str]:
        """Return the records that a copy has left, and that nobody has named or uses."""
        users = await self._users()
        own = await anyio.to_thread.run_sync(_own_record, entry, users)
        found = [one for one in entry.made if users.image(one) is not None] + ([own] if own else [])
        used = {one.image for one in users.containers}
        return [one for one in found if one not in used and not users.names(one)]

    async def _layers_are_settled(self, entry: Entry) -> bool:
        """Remove the layers that this copy wrote and nothing uses; False: look again later."""
        blobs = await anyio.to_thread.run_sync(entry.blobs)
        before = await anyio.to_thread.run_sync(entry.before, "layers")
        if not blobs or before is None:
            return True
        below = await anyio.to_thread.run_sync(read_only_layers, self._layout)
        given_back: list[list[LayerRecord]] = []
        for _ in range(_CHAINS):
            users = await self._users()
            counted_on = await anyio.to_thread.run_sync(self._journal.running_blobs)
            chains = unused_chains(users.layers, users.top_layers, blobs, before, below)
            if any(chain in given_back for chain in chains):
                # Whatever keeps it, the same again would only unpack it again.
                _log.warning("layers of a failed pull are left in the store: the tools do not give them back")
                return True
            free = [chain for chain in chains if not counted_on & {layer.blob_digest for layer in chain}]
            if not chains:
                return True
            if not free or await self._others():
                return False
            # Half of it would leave an image that nobody asked for, so a cancel waits for this chain, but for no other.
            if not await finish(self._give_back(entry, free[0])):
                return False
            given_back.append(free[0])
        return False

    async def _give_back(self, entry: Entry, chain: list[LayerRecord]) -> bool:
        folder = entry.folder / f"image-{len(entry.made)}"
        identity = await anyio.to_thread.run_sync(_write_image, folder, chain)
        entry.made.append(identity.hex)
        await anyio.to_thread.run_sync(entry.write)
        async with asyncio.timeout(_TOOL_SECONDS):
            outcome = await self._skopeo.store_folder(folder, identity)
            if outcome.code == 0:
                await self._changes.delete(identity.hex)
                return True
        _log.warning("layers of a failed pull could not be given back", error=tidy(last_words(outcome)))
        return False

    async def _users(self) -> InUse:
        return await anyio.to_thread.run_sync(read_in_use, self._layout)

    async def _others(self) -> bool:
        found = await anyio.to_thread.run_sync(other_tools, self._layout, self._skopeo.running)
        # A copy of ours that unpacks would keep the deletion waiting, and that all other pulls.
        found += map(str, (await anyio.to_thread.run_sync(lock_use, self._layout)).writers)
        if found:
            _log.debug("what a failed pull left stays while others are at work on the store", others=found)
        return bool(found)


def _own_record(entry: Entry, users: InUse) -> str:
    """Return the ID of the record that this copy wrote without its name; empty if there is none that is proven so."""
    identity = entry.image()
    before = entry.before("images")
    record = users.image(identity) if identity else None
    if record is None or before is None or identity in before or record.get("names") or record.get("names-history"):
        return ""
    if not all(str(key).startswith(_WRITTEN_BY_PULLS) for key in record.get("big-data-names") or ()):
        return ""
    layers_before = entry.before("layers")
    if layers_before is None:
        return ""
    held = _held(users.layers, users.top_layers - {record.get("layer")})
    layer = str(record.get("layer") or "")
    while layer in users.layers and layer not in held:
        if layer in layers_before:
            return ""  # with the record this layer would go, which was there before
        layer = users.layers[layer].parent
    return identity


def unused_chains(
    layers: Mapping[str, LayerRecord],
    used: Collection[str],
    blobs: Collection[str],
    before: Collection[str],
    below: Mapping[str, LayerRecord] = MappingProxyType({}),
) -> list[list[LayerRecord]]:
    """Return, for each unused layer that has none above it, the layers from the lowest up to it.

    A chain whose removal would take a layer that is not ours is left out, and so is one whose lowest layer is not
    known: an image of the rest would be made of other layers.

    Args:
        layers: of the writable store, by ID.
        used: the uppermost layers of images and containers.
        blobs: digests of compressed layers that a copy has touched; a layer that came as another one is not its own.
        before: the layers that were there before the copy.
        below: layers of read-only stores, on which others may stand.
    """
    held = _held(layers, used).union(below.keys() - layers.keys())
    parents = {layer.parent for layer in layers.values()}
    known = {**below, **layers}
    found = []
    for tip in layers:
        if tip in used or tip in parents:
            continue
        path = [tip]
        while known[path[-1]].parent in known and len(path) < len(known):
            path.append(known[path[-1]].parent)
        chain = [known[name] for name in path]
        freed = path[: next((number for number, name in enumerate(path) if name in held), len(path))]
        ours = all(name not in before and known[name].blob_digest in blobs for name in freed)
        whole = all(layer.diff_digest and layer.blob_digest and not layer.incomplete for layer in chain)
        whole = whole and not chain[-1].parent
        if ours and whole:
            found.append(chain[::-1])
    return found


def _held(layers: Mapping[str, LayerRecord], used: Collection[str]) -> set[str]:
    """Return the layers at which a deletion stops: used themselves, or with more than one layer above them (R6)."""
    children: dict[str, int] = {}
    for layer in layers.values():
        children[layer.parent] = children.get(layer.parent, 0) + 1
    return {name for name in layers if name in used or children.get(name, 0) > 1}


def _write_image(folder: Path, chain: list[LayerRecord]) -> ImageID:
    """Write an image of layers that are in the store already, as skopeo's `dir:` wants it, and return its ID."""
    diff_ids = [layer.diff_digest for layer in chain]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = json.dumps({"architecture": "", "os": "linux", "config": {}, "rootfs": rootfs, "history": []}).encode()
    digits = hashlib.sha256(config).hexdigest()
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "size": len(config), "digest": f"sha256:{digits}"},
        "layers": [{"mediaType": _LAYER, "size": 1, "digest": layer.blob_digest} for layer in chain],
    }
    folder.mkdir()
    (folder / digits).write_bytes(config)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return ImageID(digits)
