"""Reading a store whose files cannot be read for a moment, change unseen, or lie in two stores."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from containers_storage.opened import texts, until
from containers_storage.written_store import WrittenStore
from containers_storage.written_store import digest as digest_of
from criimage import errors
from criimage.foreign_json import BOUNDS
from criimage_containers_storage.store import images, reader
from criimage_containers_storage.store.in_use import read_in_use
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.records import big_data_file
from criimage_containers_storage.store.snapshot import parse_names_cached
from criimage_containers_storage.store.storage_conf import Layout
from criimage_containers_storage.store.usage import UsageMeter

if TYPE_CHECKING:
    from criimage_containers_storage.store.records import ImageRecord

TOP = "l" * 64
LAYER = {"id": TOP, "diff-digest": "sha256:" + "d" * 64, "diff-size": 5000}


def fails(monkeypatch: pytest.MonkeyPatch, file: str, number: int) -> None:
    """Lets each reading of a file of that name fail, until undone."""
    real, content = Path.read_bytes, images._content

    def read(path: Path) -> bytes:
        if path.name == file:
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(
        images, "_content", lambda folder, name: read(folder / name) if name == file else content(folder, name)
    )


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("file", ["images.json", "layers.json"])
async def test_what_cannot_be_read_keeps_what_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, number: int
) -> None:
    """Lists go on by the old state, whoever decides gets the error with the path, and nothing of it is kept (A6)."""
    written = WrittenStore(tmp_path, layers=[dict(LAYER)])
    written.add("a.io/x:1", layer=TOP)
    written.write()
    store = Store(written.layout)
    before = await store.snapshot()
    written.add("a.io/y:1", layer=TOP)
    written.write()
    with monkeypatch.context() as patch:
        fails(patch, file, number)
        with capture_logs() as logged:
            assert await store.snapshot() is before
            with pytest.raises(errors.OperationFailed, match=f"{file}: {os.strerror(number)}"):
                await store.now()
        assert [file in line["error"] for line in logged] == [True], "told once"
        with pytest.raises(errors.OperationFailed, match=file):
            await Store(written.layout).snapshot()
    now = await store.now()
    assert [texts(one.tags) for one in now.images] == [["a.io/x:1"], ["a.io/y:1"]]
    assert min(one.size for one in now.images) > 5000


async def test_too_many_open_files_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image whose manifest could not be opened for want of descriptors is not shown as damaged (A6)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    store = Store(written.layout)
    with monkeypatch.context() as patch:
        fails(patch, "manifest", errno.EMFILE)
        with pytest.raises(errors.OperationFailed, match="Too many open files"):
            await store.snapshot()
    (found,) = (await store.snapshot()).by_id.values()
    assert not found.facts.fault
    assert found.image.digests


async def test_a_list_that_is_given_up_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread still reads for a caller that left, no second one begins beside it (A7)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    store = Store(written.layout)
    go_on, threads, most = threading.Event(), 0, 0
    real = reader._read_records

    def slow(root: Any, before: Any) -> Any:  # noqa: ANN401 - whatever the real one takes
        nonlocal threads, most
        threads += 1
        most = max(most, threads)
        go_on.wait(60)
        try:
            return real(root, before)
        finally:
            threads -= 1

    monkeypatch.setattr(reader, "_read_records", slow)
    given_up = [asyncio.create_task(store.snapshot()) for _ in range(5)]
    await asyncio.to_thread(until, lambda: threads)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    waiting = [asyncio.create_task(store.snapshot()) for _ in range(5)]
    await asyncio.sleep(0.05)
    go_on.set()
    assert {len(one.images) for one in await asyncio.gather(*waiting)} == {1}
    assert most == 1


async def test_a_store_that_changes_all_the_time_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reading that began after the call is enough, though a tool has written again by its end (A7)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:0")
    written.write()
    store, readings = Store(written.layout), 0
    real = reader._read_records

    def read(root: Any, before: Any) -> Any:  # noqa: ANN401 - whatever the real one takes
        nonlocal readings
        readings += 1
        found = real(root, before)
        written.add(f"a.io/x:{readings}")
        written.write()
        return found

    monkeypatch.setattr(reader, "_read_records", read)
    for expected in (1, 2, 3):
        async with asyncio.timeout(30):
            assert len((await store.snapshot()).images) == expected
    assert readings == 3


async def test_lists_need_no_thread_of_the_others(tmp_path: Path) -> None:
    """With each thread of the pool in a file that hangs, such as an auth file of a file system that is gone (A7)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    pool = anyio.to_thread.current_default_thread_limiter()
    hanging = [object() for _ in range(int(pool.available_tokens))]
    for one in hanging:
        pool.acquire_on_behalf_of_nowait(one)
    try:
        async with asyncio.timeout(30):
            assert len((await Store(written.layout).snapshot()).images) == 1
    finally:
        for one in hanging:
            pool.release_on_behalf_of(one)


async def test_a_change_that_only_the_token_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inode, size and times may repeat; the last writer's token does not (L6)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    file, lock = written.images_folder / "images.json", written.images_folder / "images.lock"
    lock.write_bytes(b"one")
    store = Store(written.layout)
    before = await store.snapshot()
    stat, real = os.lstat(file), os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: stat if path == str(file) else real(path))
    content = file.read_text().replace("a.io/x:1", "a.io/x:2")
    lock.write_bytes(b"two")
    file.write_text(content)
    (image,) = (await store.snapshot()).images
    assert image is not before.images[0]
    assert texts(image.tags) == ["a.io/x:2"]


async def test_the_order_of_arrival_tells_the_newest_index(tmp_path: Path) -> None:
    """Digests are a map sorted by key in the file; which came last stands in big-data-names (E17, 14)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    record = written.records[0]
    folder = written.images_folder / record["id"]
    canonical = record["big-data-digests"]["manifest"]
    for number in range(6):
        data = json.dumps({"n": number, "manifests": [{"digest": canonical}]}).encode()
        digest = add_item(record, folder, data)
        record["big-data-digests"] = dict(sorted(record["big-data-digests"].items()))
        written.write()
        (image,) = (await Store(written.layout).snapshot()).images
        assert texts(image.digests)[0] == f"a.io/x@{digest}"


def add_item(record: dict[str, Any], folder: Path, data: bytes) -> str:
    """Adds a manifest to a record as the tools do, and returns its digest."""
    digest = digest_of(data)
    key = f"manifest-{digest}"
    (folder / big_data_file(key)).write_bytes(data)
    record["big-data-names"].append(key)
    record["big-data-digests"][key] = digest
    record["big-data-sizes"][key] = len(data)
    return digest


async def test_an_image_of_both_stores(tmp_path: Path) -> None:
    """It has the names of both records and is pinned, as is one of the read-only store alone (C15, L12)."""
    own, other = WrittenStore(tmp_path / "own"), WrittenStore(tmp_path / "other")
    own.add("a.io/own:1", seed="same")
    own.add("a.io/only:1")
    other.add("a.io/shared:1", seed="same")
    other.add("a.io/theirs:1")
    own.write()
    other.write()
    snapshot = await Store(Layout(own.root, tmp_path / "run", "overlay", (), (other.root,))).snapshot()
    assert {tuple(texts(one.tags)): one.pinned for one in snapshot.images} == {
        ("a.io/own:1", "a.io/shared:1"): True,
        ("a.io/only:1",): False,
        ("a.io/theirs:1",): True,
    }


def write_containers(folder: Path, file: str, *records: dict[str, str]) -> None:
    """Writes a file of containers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(records))


@pytest.mark.parametrize("where", ["containers", "volatile", "transient"])
def test_a_container_of_any_tool_is_seen(tmp_path: Path, where: str) -> None:
    """podman's, CRI-O's and those of a transient store (A1, 14)."""
    layout = WrittenStore(tmp_path).layout
    folder = (layout.run_root if where == "transient" else layout.root) / "overlay-containers"
    file = "containers.json" if where == "containers" else "volatile-containers.json"
    write_containers(folder, file, {"id": "c", "image": "i", "layer": "l"})
    found = read_in_use(layout)
    with pytest.raises(errors.ImageInUse, match="image used by c"):
        found.refuse_if_used("i")
    found.refuse_if_used("j")
    assert "l" in found.top_layers


@pytest.mark.parametrize("content", ["{", "{}", '[{"id": "c", "image": 5}]', '[{"image": "i"}]', "[5]"])
def test_containers_that_cannot_be_read_are_not_none(tmp_path: Path, content: str) -> None:
    """Nothing is deleted because something could not be read (A6)."""
    layout = WrittenStore(tmp_path).layout
    folder = layout.root / "overlay-containers"
    folder.mkdir(parents=True)
    (folder / "volatile-containers.json").write_text(content)
    with pytest.raises(errors.OperationFailed, match=r"volatile-containers\.json"):
        read_in_use(layout)


async def test_what_a_container_writes_is_no_image(tmp_path: Path) -> None:
    """Neither podman's containers nor CRI-O's grow the figures of the images, nor what is about to be deleted (A1)."""
    written = WrittenStore(tmp_path, layers=[dict(LAYER)])
    written.add("a.io/x:1", layer=TOP)
    written.write()
    meter = UsageMeter(written.layout, Store(written.layout))
    (tmp_path / "overlay").mkdir()
    before = await measured(meter)
    for number, file in enumerate(("containers", "volatile-containers")):
        write_containers(tmp_path / "overlay-containers", f"{file}.json", {"id": str(number), "layer": f"w{number}"})
    (tmp_path / "overlay-layers/volatile-layers.json").write_text(json.dumps([{"id": "w2"}]))
    for name in ("w0", "w1", "w2", "temp-dir-5", "tempdirs"):
        (tmp_path / "overlay" / name).mkdir()
        (tmp_path / "overlay" / name / "written").write_bytes(b"x" * 2_000_000)
    assert await measured(meter) - before < 100_000
    (tmp_path / "overlay-containers/volatile-containers.json").write_text("{")
    assert await measured(meter) - before < 100_000, "the figures stay while a file cannot be read"


async def measured(meter: UsageMeter) -> int:
    """The figure of a round of its own."""
    meter._started = 0.0
    await meter.usage()
    if meter._round is not None:
        await asyncio.wait({meter._round})
    return (await meter.usage()).used_bytes


def test_what_is_hidden_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without a name yet is no image, and is known as a record (A5)."""
    # However long a busy machine takes between the writing and the look.
    monkeypatch.setattr(reader, "_NAMELESS_SECONDS", 600.0)
    written = WrittenStore(tmp_path)
    identity = written.add(seed="nameless")
    written.write()
    hidden: dict[str, ImageRecord] = asyncio.run(Store(written.layout).snapshot()).hidden
    assert set(hidden) == {identity}


async def test_a_store_may_be_larger_than_what_strangers_write(tmp_path: Path) -> None:
    """Ten thousand images are 16 MB of records; nobody but the node's own tools writes them."""
    written = WrittenStore(tmp_path)
    for number in range(20):
        written.add(f"a.io/x:{number}")
        written.records[-1]["metadata"] = json.dumps({"more": "x" * 1_000_000})
    written.write()
    assert (written.images_folder / "images.json").stat().st_size > BOUNDS.size
    assert len((await Store(written.layout).snapshot()).images) == 20


def test_names_of_a_large_store_are_read_once() -> None:
    """A cache that is smaller than the store forgets each name before it is asked for again."""
    names = [(f"a.io/x:{number}",) for number in range(20_000)]
    for each in names:
        parse_names_cached(each)
    before = parse_names_cached.cache_info()
    for each in names:
        parse_names_cached(each)
    assert parse_names_cached.cache_info().misses == before.misses
