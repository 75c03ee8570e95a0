"""Images and files of a store that are damaged, or being written: what is known is shown, and hides nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import structlog

from containers_storage.hostile import DEEP
from containers_storage.opened import texts
from containers_storage.written_store import WrittenStore, layer
from criimage.reference import Reference
from criimage_containers_storage.store import reader
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.records import big_data_file

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_record_being_written_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull writes the record, then its files, then its name: in between it is not an image yet (L10)."""
    monkeypatch.setattr(reader, "_NAMELESS_SECONDS", 600.0)
    written = WrittenStore(tmp_path)
    fresh = written.add(seed="fresh")
    old = written.add(seed="old")
    written.write()
    os.utime(written.images_folder / old / "manifest", (1, 1))
    assert [image.id.hex for image in (await Store(written.layout).snapshot()).images] == [old]
    os.utime(written.images_folder / fresh / "manifest", (1, 1))
    assert len((await Store(written.layout).snapshot()).images) == 2


DAMAGES = ["manifest", "config", "folder", "empty", "deep", "list", "no digests", "odd digests"]


FAULTS = {
    "manifest": "No such file or directory",
    "config": "No such file or directory",
    "folder": "No such file or directory",
    "no digests": "no manifest is recorded",
}
"""What an operator is told of them; of the others whatever the reader of JSON found."""


def damaged_store(folder: Path, damage: str) -> WrittenStore:
    """A store whose first image is damaged, long ago."""
    written = WrittenStore(folder)
    bad = written.add("a.io/bad:1", "<none>:<none>", f"a.io/own@sha256:{'1' * 64}", layer="a")
    written.add("a.io/good:1")
    written.layers = [layer("a", size=1000)]
    place = written.images_folder / bad
    manifest = place / "manifest"
    match damage:
        case "manifest":
            manifest.unlink()
        case "config":
            (place / big_data_file(f"sha256:{bad}")).unlink()
        case "folder":
            shutil.rmtree(place)
        case "empty":
            manifest.write_bytes(b"")
        case "deep":
            manifest.write_text(DEEP)
        case "list":
            (place / big_data_file(f"sha256:{bad}")).write_text("[1, null]")
        case "no digests":
            written.records[0]["big-data-digests"] = None
        case _:
            odd = {"manifest": "no digest", "manifest-\ud800/..": "sha256:\ud800", "sha256:x/../y\0": 5}
            written.records[0]["big-data-digests"] = odd
    written.write()
    for file in (written.images_folder / "images.json", place):
        if file.exists():
            os.utime(file, (1, 1))
    return written


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_image_is_listed_with_what_is_known(tmp_path: Path, damage: str) -> None:
    """An image that cannot be read shows ID, names, digests and size, so that it can be removed (S18, S5)."""
    written = damaged_store(tmp_path, damage)
    snapshot = await Store(written.layout).snapshot()
    bad, good = snapshot.images
    assert texts(good.tags) == ["a.io/good:1"]
    assert texts(bad.tags) == ["a.io/bad:1"]
    assert bad.id.hex == written.records[0]["id"]
    assert bad.size == sum(written.records[0]["big-data-sizes"].values()) + 1000
    found = [f"a.io/own@sha256:{'1' * 64}"]
    if "digests" not in damage:
        manifest = written.records[0]["big-data-digests"]["manifest"]
        found = [f"a.io/bad@{manifest}", f"a.io/own@{manifest}", *found]
    assert texts(bad.digests) == found
    stored = snapshot.by_name[Reference.parse("a.io/bad:1")]
    assert stored is snapshot.with_prefix(bad.id.hex[:8])
    assert stored.facts.fault == FAULTS.get(damage, stored.facts.fault) != ""
    assert (stored.facts.user, dict(stored.facts.annotations)) == (None, {})


@pytest.mark.parametrize("damage", ["manifest", "config", "folder", "no digests"])
async def test_files_that_are_missing_for_a_moment_mean_no_damage(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be being written or removed right now is left out without a word, the others are listed (L10, S18)."""
    monkeypatch.setattr(reader, "_WRITING_SECONDS", 600.0)
    written = damaged_store(tmp_path, damage)
    os.utime(written.images_folder / "images.json")
    with structlog.testing.capture_logs() as logs:
        (image,) = (await Store(written.layout).snapshot()).images
    assert texts(image.tags) == ["a.io/good:1"]
    assert not logs


async def test_a_damaged_image_that_was_listed_stays_listed(tmp_path: Path) -> None:
    """Other changes of the store do not make it look new again, and it is logged once (S18, L10)."""
    written = damaged_store(tmp_path, "config")
    store = Store(written.layout)
    with structlog.testing.capture_logs() as logs:
        first = (await store.snapshot()).images
        written.add("a.io/more:1")
        written.write()
        second = (await store.snapshot()).images
    assert len(second) == 3
    assert second[0] is first[0]
    (told,) = logs
    assert (told["what"], told["error"]) == (first[0].id.hex, FAULTS["config"])


async def test_files_written_again_make_an_image_whole(tmp_path: Path) -> None:
    """A damaged image is read again when the store changes, although its record says the same (S18, L11)."""
    written = damaged_store(tmp_path, "empty")
    store = Store(written.layout)
    bad = next(iter((await store.snapshot()).by_id.values()))
    assert bad.facts.fault
    good = WrittenStore(tmp_path / "other")
    good.add("a.io/bad:1", "<none>:<none>", f"a.io/own@sha256:{'1' * 64}", layer="a")
    whole = good.images_folder / bad.image.id.hex / "manifest"
    (bad.folder / "manifest").write_bytes(whole.read_bytes())
    written.write()
    assert not next(iter((await store.snapshot()).by_id.values())).facts.fault


async def test_a_record_that_is_none_hides_nothing_else(tmp_path: Path) -> None:
    """A record without an ID cannot be shown; the others are (S18)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/bad:1")
    written.add("a.io/good:1")
    written.records[0] = {"id": 5, "names": "x"}
    written.write()
    (image,) = (await Store(written.layout).snapshot()).images
    assert texts(image.tags) == ["a.io/good:1"]


async def test_a_broken_file_keeps_what_was_known(tmp_path: Path) -> None:
    """A file that is no JSON never empties the list; it counts again when it is whole (L4)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    store = Store(written.layout)
    assert len((await store.snapshot()).images) == 1
    (written.images_folder / "images.json").write_text("[{")
    assert len((await store.snapshot()).images) == 1


async def test_a_record_without_a_name_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown when it is old enough, though no file of the store has changed since (L10)."""
    monkeypatch.setattr(reader, "_NAMELESS_SECONDS", 600.0)
    written = WrittenStore(tmp_path)
    identity = written.add(seed="fresh")
    written.write()
    store = Store(written.layout)
    assert (await store.snapshot()).images == ()
    monkeypatch.setattr(reader, "_NAMELESS_SECONDS", 0.0)
    async with asyncio.timeout(30):
        while not (shown := (await store.snapshot()).images):  # noqa: ASYNC110 - no event tells what a list would show
            await asyncio.sleep(0.05)
    assert [image.id.hex for image in shown] == [identity]
