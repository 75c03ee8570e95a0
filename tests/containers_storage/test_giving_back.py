"""What a backend that is closed leaves of giving layers back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from criimage_containers_storage.pulling.leftovers import Leftovers
from criimage_containers_storage.pulling.process import Outcome
from criimage_containers_storage.store.access import StoreAccess
from criimage_containers_storage.store.storage_conf import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.reference import ImageID
    from criimage_containers_storage.pulling.journal import Journal
    from criimage_containers_storage.pulling.skopeo import Skopeo


class HeldSkopeo:
    """Says what it is asked to do, and takes as long as it is held."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = asyncio.Event()
        self.free = asyncio.Event()

    async def store_folder(self, _image: Path, _identity: ImageID) -> Outcome:
        """Begins to store a chain, and ends when it is free."""
        self.asked.append("store")
        self.begun.set()
        await self.free.wait()
        return Outcome(0, b"", "")

    async def delete(self, _identity: ImageID) -> Outcome:
        """Deletes what was stored."""
        self.asked.append("delete")
        return Outcome(0, b"", "")


async def test_a_cancel_waits_for_one_chain_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain under way is finished, since half of it would be an image; the others stay for later (T14)."""
    monkeypatch.setattr(Leftovers, "_chains", lambda _self, _blobs: [[], [], []])
    monkeypatch.setattr("criimage_containers_storage.pulling.leftovers._write_image", lambda _image, _chain: None)
    skopeo = HeldSkopeo()
    layout = Layout(root=tmp_path, run_root=tmp_path, driver="vfs")
    leftovers = Leftovers(layout, cast("Skopeo", skopeo), StoreAccess(1), cast("Journal", None), tmp_path)
    task = asyncio.create_task(leftovers.give_back({"sha256:a"}, tmp_path))
    await skopeo.begun.wait()
    task.cancel()
    skopeo.free.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert skopeo.asked == ["store", "delete"]
