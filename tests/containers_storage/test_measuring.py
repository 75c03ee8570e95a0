"""What the figures of the disk usage are made of, and what is measured again for them (cri-o F1-F3)."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from containers_storage.written_store import WrittenStore
from criimage.disk_usage import measure_folder
from criimage_containers_storage.store import usage
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.usage import UsageMeter

if TYPE_CHECKING:
    from pathlib import Path

COMPLETE = {"id": "complete", "diff-digest": "sha256:" + "ab" * 32, "diff-size": 5}
UNFINISHED = {"id": "unfinished", "diff-digest": "sha256:" + "cd" * 32, "diff-size": 5, "flags": {"incomplete": True}}
WRITABLE = {"id": "writable"}


def written_store(folder: Path, driver: str = "overlay") -> tuple[WrittenStore, Path]:
    """A store with a layer of each kind, and where the layers lie."""
    written = WrittenStore(folder, driver, layers=[COMPLETE, UNFINISHED, WRITABLE])
    written.add("a.io/x:1", layer="complete")
    written.write()
    layers = folder / driver / "dir" if driver == "vfs" else folder / driver
    for name in ("complete", "unfinished", "writable"):
        (layers / name).mkdir(parents=True)
        (layers / name / "file").write_bytes(b"x" * 1_000_000)
    return written, layers


async def next_round(meter: UsageMeter) -> tuple[int, int | None]:
    """The figures of a round of its own: bytes and files."""
    await meter._measure()
    assert meter._measured is not None
    return meter._measured.bytes, meter._measured.files


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
async def test_all_that_layers_and_records_take(tmp_path: Path, driver: str) -> None:
    """F3: the blocks and files of the driver's layers and of the records, wherever the driver keeps them."""
    written, layers = written_store(tmp_path, driver)
    meter = UsageMeter(written.layout, Store(written.layout))
    parts = [measure_folder(layers / name) for name in ("complete", "unfinished", "writable")]
    parts += [measure_folder(tmp_path / f"{driver}-{kind}") for kind in ("layers", "images")]

    assert await next_round(meter) == tuple(map(sum, zip(*parts, strict=True)))
    assert parts[0][0] >= 1_000_000


@pytest.mark.parametrize("driver", ["btrfs", "zfs"])
async def test_layers_that_are_snapshots_count_as_they_are_recorded(tmp_path: Path, driver: str) -> None:
    """F3: each is a file system of its own, which no walk enters, and has all that the layers below have once more."""
    written, _ = written_store(tmp_path, driver)
    written.layers.append({"id": "upper", "parent": "complete", "diff-digest": "sha256:" + "ef" * 32, "diff-size": 7})
    written.write()
    meter = UsageMeter(written.layout, Store(written.layout))
    records = sum(measure_folder(tmp_path / f"{driver}-{kind}")[0] for kind in ("layers", "images"))

    assert await next_round(meter) == (records + 5 + 7, None)


async def test_a_complete_layer_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is complete does not change; what may still grow is measured in each round, and a layer made anew."""
    written, layers = written_store(tmp_path)
    measured: list[str] = []

    def counted(folder: Path, stop: threading.Event) -> tuple[int, int]:
        measured.append(folder.name)
        return measure_folder(folder, stop)

    monkeypatch.setattr(usage, "measure_folder", counted)
    meter = UsageMeter(written.layout, Store(written.layout))
    first = await next_round(meter)
    assert await next_round(meter) == first
    assert {name: measured.count(name) for name in ("complete", "unfinished", "writable")} == {
        "complete": 1,
        "unfinished": 2,
        "writable": 2,
    }

    (layers / "complete").rename(tmp_path / "elsewhere")
    (layers / "complete").mkdir()
    assert first[1] is not None
    assert (await next_round(meter))[1] == first[1] - 1
    assert measured.count("complete") == 2


@pytest.mark.parametrize("folder", ["overlay", "complete"])
async def test_a_folder_that_cannot_be_opened_now_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """F3: without a descriptor for it the figures stay as they were; no layer is taken for an empty one for good."""
    written, _ = written_store(tmp_path)
    meter = UsageMeter(written.layout, Store(written.layout))
    before = await next_round(meter)
    meter._known.clear()
    real = os.scandir

    def none_left(place: str) -> Any:  # noqa: ANN401 - as the real one
        if str(place).endswith(f"/{folder}"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), place)
        return real(place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", none_left)
        assert await next_round(meter) == before
    assert await next_round(meter) == before


async def test_the_mount_point_is_looked_for_until_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients look at it, so it exists: a folder above while the store is new; with images in it, it stays (F1)."""
    looked: list[str] = []

    def counted(folder: Path) -> str:
        looked.append(there(folder))
        return looked[-1]

    there = usage._there
    monkeypatch.setattr(usage, "_there", counted)
    written = WrittenStore(tmp_path / "new")
    meter = UsageMeter(written.layout, Store(written.layout))
    assert [(await meter.usage()).mountpoint for _ in range(2)] == [str(tmp_path)] * 2
    written.add("a.io/x:1")
    written.write()
    assert [(await meter.usage()).mountpoint for _ in range(3)] == [str(written.images_folder)] * 3

    assert looked == [str(tmp_path)] * 2 + [str(written.images_folder)]
    await meter.close()


async def test_who_asks_does_not_wait_for_a_long_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand images each round takes longer than anybody may wait: what is known is told, with its time."""
    written, _ = written_store(tmp_path)
    meter = UsageMeter(written.layout, Store(written.layout))
    monkeypatch.setattr(usage, "_PATIENCE", 3600.0)
    first = await meter.usage()
    monkeypatch.setattr(meter, "_took", 7200.0)
    go_on = threading.Event()

    def held(folder: Path, stop: threading.Event) -> tuple[int, int]:
        assert go_on.wait(60)
        return measure_folder(folder, stop)

    monkeypatch.setattr(usage, "measure_folder", held)
    written.add("a.io/y:1", layer="complete")
    written.write()
    told = await meter.usage()
    assert (told.used_bytes, told.timestamp) == (first.used_bytes, first.timestamp)
    running = meter._round
    assert running is not None
    go_on.set()
    await running
    told = await meter.usage()
    assert told.used_bytes > first.used_bytes
    assert told.timestamp > first.timestamp


@pytest.mark.parametrize(("took", "before"), [(0.0, 1.0), (0.5, 10.0), (600.0, 30.0)])
async def test_a_large_store_is_measured_less_often(
    tmp_path: Path, took: float, before: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged store is measured for a twentieth of the time at most, and twice a minute at least."""
    written, _ = written_store(tmp_path)
    meter = UsageMeter(written.layout, Store(written.layout))
    await meter.usage()
    if meter._round is not None:
        await meter._round
    rounds: list[float] = []
    now = 1000.0
    monkeypatch.setattr(usage, "time", SimpleNamespace(monotonic=lambda: now, time_ns=time.time_ns))

    async def counted() -> None:
        rounds.append(now)
        meter._round = None

    monkeypatch.setattr(meter, "_measure", counted)
    monkeypatch.setattr(meter, "_took", took)
    monkeypatch.setattr(meter, "_started", now)
    for age, count in ((before - 0.5, 0), (before + 0.5, 1), (2 * before, 1), (2 * before + 1, 2)):
        now = 1000 + age
        await meter.usage()
        await asyncio.sleep(0)
        assert len(rounds) == count


async def test_containers_have_figures_of_their_own_where_the_store_is_split(tmp_path: Path) -> None:
    """F1: CRI-O tells them by their folder in the graph root; elsewhere they have no place of their own."""
    written, _ = written_store(tmp_path / "images")
    layout = replace(written.layout, root=tmp_path / "root", image_store=tmp_path / "images")
    container = tmp_path / "root/overlay-containers/1"
    container.mkdir(parents=True)
    (container / "written").write_bytes(b"x" * 1_000_000)
    (container.parent / "containers.json").write_text(json.dumps([{"id": "1", "layer": "w"}]))

    told = await UsageMeter(layout, Store(layout)).containers()
    assert told is not None
    assert told.mountpoint == str(container.parent)
    assert (told.used_bytes, told.inodes_used) == measure_folder(container.parent)
    assert await UsageMeter(written.layout, Store(written.layout)).containers() is None
