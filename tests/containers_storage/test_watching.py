"""When a pull is asked how large it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from containers_storage.hanging_registry import HangingRegistry, hanging_registry
from containers_storage.opened import opened, until
from criimage.testing.oci import image, noise_layer
from criimage_containers_storage.pulling import progress
from criimage_containers_storage.pulling.manifest_source import ManifestSource
from criimage_containers_storage.pulling.manifests import LayersToFetch
from criimage_containers_storage.pulling.progress import Watch
from criimage_containers_storage.store.storage_conf import Layout
from parts.store import store

if TYPE_CHECKING:
    from criimage.backend import PullProgress
    from criimage_containers_storage.pulling.manifest_source import Question


async def asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a watch of this process asks what there is to fetch, within twenty looks."""
    monkeypatch.setattr(progress, "_WORTH_ASKING_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_SECONDS", 0.001)
    reports: list[PullProgress] = []
    looked, asking = asyncio.Event(), asyncio.Event()

    def report(seen: PullProgress) -> None:
        reports.append(seen)
        if len(reports) > 20:
            looked.set()

    async def ask() -> LayersToFetch:
        asking.set()
        return LayersToFetch((10,), 0)

    watch = Watch(report, Layout(folder, folder, "overlay"))
    watch.started(os.getpid())
    running = asyncio.create_task(watch.run(folder, ask))
    with anyio.move_on_after(30):
        await looked.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert looked.is_set()
    return asking.is_set()


@pytest.mark.parametrize("linked", [False, True])
async def test_asked_while_a_layer_comes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    """As long as skopeo writes a layer's file the total is worth a question, by whatever path it is told (T13)."""
    (tmp_path / "real" / "storage1").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with (tmp_path / "real" / "storage1" / "1").open("wb", buffering=0) as arriving:
        arriving.write(b"layer")
        assert await asked(tmp_path / ("link" if linked else "real"), monkeypatch)


@pytest.mark.parametrize("where", ["nothing", "complete", "config", "empty", "own"])
async def test_not_asked_when_nothing_comes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A slow store starts no more processes: all layers are here, or none has begun to come (T13)."""
    (tmp_path / "storage1").mkdir()
    layer = tmp_path / "storage1" / "1"
    with contextlib.ExitStack() as files:
        if where in ("complete", "own"):
            layer.write_bytes(b"layer")
            files.enter_context(layer.open("rb"))
        if where in ("config", "empty"):
            files.enter_context(layer.open("wb", buffering=0)).write(b"{" if where == "config" else b"")
        if where == "own":
            files.enter_context((tmp_path / "copied").open("wb"))
        assert not await asked(tmp_path, monkeypatch)


def test_what_counts_as_come(tmp_path: Path) -> None:
    """Layers by their size; a config, which is JSON, and a file that is gone count for nothing (P15)."""
    (tmp_path / "storage1").mkdir()
    for name, content in (("1", b"x" * 1000), ("2", b'{"architecture": "amd64"}'), ("3", b"")):
        (tmp_path / "storage1" / name).write_bytes(content)
    (tmp_path / "storage1" / "4").symlink_to("gone")
    seen = progress._look(Layout(tmp_path, tmp_path, "overlay"), tmp_path, 0, ask=True)
    assert sorted(seen.arrived) == [0, 0, 0, 1000]
    assert (seen.written, seen.arrives, seen.waits, seen.writes) == (0, False, False, False)


def test_a_process_that_sleeps_waits_for_no_disk() -> None:
    """Only what the kernel does not let be interrupted is the disk; what is gone waits for nothing."""
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        until(lambda: Path(f"/proc/{sleeping.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
        assert not progress._waits_for_disk(sleeping.pid)
        assert progress._written(sleeping.pid) >= 0
        sleeping.kill()
    assert not progress._waits_for_disk(sleeping.pid)
    assert progress._written(sleeping.pid) == 0


@pytest.mark.engine
async def test_a_few_at_once_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pulls take long, three at most are being asked at one time; in the end all are (T13)."""
    monkeypatch.setattr(progress, "_WORTH_ASKING_SECONDS", 0.0)
    now, most, done = 0, 0, 0
    three = asyncio.Event()
    real = ManifestSource.manifest

    async def counted(self: ManifestSource, question: Question) -> bytes:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        if now == 3:
            three.set()
        try:
            # However far apart they come: the first ones wait for each other, and then for one too many.
            await three.wait()
            await asyncio.sleep(0.1)
            return await real(self, question)
        finally:
            now, done = now - 1, done + 1

    monkeypatch.setattr(ManifestSource, "manifest", counted)
    with hanging_registry(HangingRegistry(image(noise_layer(2_000_000)), hang_after=500_000)) as hub, store() as local:
        async with opened(local) as under_test:
            names = [f"127.0.0.1:{hub.port}/app:{number}" for number in range(8)]
            tasks = [asyncio.create_task(under_test.pull(name)) for name in names]
            with anyio.fail_after(50):
                while done < len(names):  # noqa: ASYNC110 - counted by what stands in for skopeo
                    await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
