"""Giving back the layers of pulls that came to nothing.

A pull that fails, is cancelled or killed leaves the layers that were complete by then. A retry uses them, and they go
with the image it makes. Without a retry nothing lists these layers, so nobody frees them: they are given back after a
while, and at once where the disk was full. Only layers of our own pulls, which `copied` knows: what else is unused may
belong to another tool's pull that is running. The store's tools give a layer back only with an image, so an image is
made of them and removed again; skopeo alone does both.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import structlog

from criimage.reference import ImageID
from criimage_containers_storage.finishing import finish
from criimage_containers_storage.pulling.failures import last_words
from criimage_containers_storage.pulling.work_folder import for_one_pull
from criimage_containers_storage.store.records import read_layers, read_raw

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from criimage_containers_storage.pulling.journal import Journal
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.store.access import StoreAccess
    from criimage_containers_storage.store.records import LayerRecord
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Leftovers", "unused_chains"]

_log = structlog.get_logger(__name__)

WAIT_SECONDS = 900.0
"""So long a retry may be in coming: kubelet's are five minutes apart at most."""

LOOK_SECONDS = 60.0
"""Between two looks at what is due."""

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Leftovers:
    """Gives back what pulls into one store have left.

    Args:
        layout: the store.
        skopeo: changes it.
        access: keeps copies and deletions apart.
        journal: layers that nothing uses, as far as known.
        work: our folder.
    """

    def __init__(self, layout: Layout, skopeo: Skopeo, access: StoreAccess, journal: Journal, work: Path) -> None:
        self._journal = journal
        self._work = work
        self._layout = layout
        self._skopeo = skopeo
        self._access = access

    def remember(self, blobs: set[str]) -> None:
        """Give these layers back later, unless something uses them then. Blocks."""
        self._journal.add(blobs)

    async def watch(self) -> None:
        """Give back what is due, again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            due = self._journal.due(WAIT_SECONDS)
            # A copy that runs may count on them.
            if due and not self._access.copies:
                try:
                    async with for_one_pull(self._work, lambda _: None) as folder:
                        await self.give_back(due, folder)
                except OSError as error:
                    _log.warning("layers of a failed pull could not be given back", error=str(error))
                await anyio.to_thread.run_sync(self._journal.forget, due)

    async def give_back(self, blobs: Collection[str], folder: Path) -> None:
        """Remove the layers that came as one of `blobs` and that nothing uses.

        Only these: what else is unused may belong to another tool's pull that is running. Failing is no more than a
        line in the log. After a cancel the rest is where it was.

        Args:
            blobs: digests of compressed layers.
            folder: of this pull's own.
        """
        try:
            async with self._access.exclusive():
                for number, chain in enumerate(await anyio.to_thread.run_sync(self._chains, blobs)):
                    # Half of it would leave an image that nobody asked for, so a cancel waits for this chain, but for
                    # no other.
                    await finish(self._give_back(folder / f"leftovers-{number}", chain))
        except Exception as error:  # noqa: BLE001 - whatever it is, the pull that failed has its own error to tell
            _log.warning("layers of a failed pull could not be given back", error=str(error))

    async def _give_back(self, image: Path, chain: list[LayerRecord]) -> None:
        # Half of it would leave an image that nobody asked for, so a cancel waits for this chain, but for no other.
        identity = await anyio.to_thread.run_sync(_write_image, image, chain)
        for outcome in (await self._skopeo.store_folder(image, identity), await self._skopeo.delete(identity)):
            if outcome.code != 0:
                _log.warning("layers of a failed pull could not be given back", error=last_words(outcome))

    def _chains(self, blobs: Collection[str]) -> list[list[LayerRecord]]:
        root, driver = self._layout.root, self._layout.driver
        layers = read_layers(read_raw(root / f"{driver}-layers" / "layers.json"))
        images = read_raw(root / f"{driver}-images" / "images.json")
        containers = read_raw(root / f"{driver}-containers" / "containers.json")
        used = {str(record.get("layer", "")) for record in [*images, *containers]}
        for image in images:
            used.update(map(str, image.get("mapped-layers") or ()))
        return unused_chains(layers, used, blobs)


def unused_chains(
    layers: Mapping[str, LayerRecord], used: Iterable[str], blobs: Collection[str]
) -> list[list[LayerRecord]]:
    """Return, for each unused layer that has none above it, the layers from the lowest up to it.

    Args:
        layers: by ID.
        used: the uppermost layers of images and containers.
        blobs: digests of compressed layers that count; a layer that came as another one is left alone.
    """
    taken = set(used) | {layer.parent for layer in layers.values()}
    found = []
    for identity, top in layers.items():
        if identity in taken or top.incomplete or top.blob_digest not in blobs:
            continue
        chain = [top]
        while chain[0].parent in layers and len(chain) < len(layers):
            chain.insert(0, layers[chain[0].parent])
        if all(layer.diff_digest and layer.blob_digest for layer in chain):
            found.append(chain)
    return found


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
