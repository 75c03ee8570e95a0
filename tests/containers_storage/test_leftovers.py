"""What a pull that came to nothing leaves, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from cli.command import at_once
from containers_storage.opened import opened, until
from criimage.testing.oci import image, layer, noise_layer
from criimage.testing.scripted_registry import Hang, ScriptedRegistry, Stage, scripted_registry
from criimage_containers_storage.pulling import leftovers
from criimage_containers_storage.pulling.journal import Journal, copied_blobs, copied_file, left_behind
from criimage_containers_storage.pulling.work_folder import work_folder
from parts.child import child
from parts.criimage_process import criimage, store_config
from parts.store import Store, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


LAYERS = [noise_layer(100_000, seed=number) for number in range(3)]
BIG = image(*LAYERS)
OTHER = image(LAYERS[0], layer({"other": b"1"}))
DIGEST = "sha256:" + "a" * 64
DRIVERS = pytest.mark.parametrize("driver", ["overlay", "vfs"])


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is looked for at once, and given back at once."""
    monkeypatch.setattr(leftovers, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(leftovers, "LOOK_SECONDS", 0.05)


@contextlib.contextmanager
def halted(hub: ScriptedRegistry) -> Iterator[str]:
    """The name of an image whose last layer does not come, until released."""
    name = hub.put(BIG, "big", "1")
    hub.script(Stage.LAYER, Hang(after=1000), reference=LAYERS[2].digest)
    yield name


def layers_of(local: Store) -> int:
    """How many layers are complete in the store."""
    file = local.root / f"{local.driver}-layers" / "layers.json"
    records = json.loads(file.read_text()) if file.exists() else []
    return sum(not (record.get("flags") or {}).get("incomplete") for record in records)


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_a_retry_uses_what_was_complete() -> None:
    """Layers of a cancelled pull are not fetched again, and stay in force for some minutes (T14)."""
    with scripted_registry() as hub, store() as local, halted(hub) as name:
        async with opened(local) as under_test:
            await cancelled_with_two_layers(under_test.pull(name), local)
            hub.release()
            fetched = len(hub.asked(Stage.LAYER))
            await under_test.pull(name)
            assert [one.reference for one in hub.asked(Stage.LAYER)[fetched:]] == [LAYERS[2].digest]


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo", "soon")
@DRIVERS
async def test_without_a_retry_they_are_given_back(driver: str) -> None:
    """Layers that no image, container or other layer needs go, those that one needs stay (T14, R6)."""
    with scripted_registry() as hub, store(driver=driver) as local, halted(hub) as name:
        async with opened(local) as under_test:
            other = await under_test.pull(hub.put(OTHER, "other", "1"))
            await cancelled_with_two_layers(under_test.pull(name), local, 3)
            await asyncio.to_thread(until, lambda: layers_of(local) == len(local.layer_folders()) == 2)
            assert await under_test.backend.images() == (other,)
            hub.release()
            await under_test.pull(name)
            await asyncio.sleep(0.3)
            assert len(await under_test.backend.images()) == 2
            assert layers_of(local) == 4


async def cancelled_with_two_layers(pull: object, local: Store, count: int = 2) -> None:
    """Cancels a pull when so many layers are in the store."""
    task = asyncio.ensure_future(pull)  # type: ignore[call-overload]
    await asyncio.to_thread(until, lambda: layers_of(local) == count)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
def test_killed_in_the_middle_and_started_again() -> None:
    """After `kill -9` the next server ends what still ran, sweeps the files, serves, and a retry works (T14, C1)."""
    with scripted_registry() as hub, store() as local, halted(hub) as name:
        killed_in_the_middle(local, name)
        assert list(local.tmp.glob("criimage-work-*/pull-*/*"))
        assert hub.open(Stage.LAYER), "skopeo goes on without its server"
        with criimage(store_config(local)) as server:
            until(lambda: not hub.open() and not list(local.tmp.glob("*/pull-*")))
            assert json.loads(at_once("images", "--output", "json", "--endpoint", server.endpoint))["images"] == []
            hub.release()
            fetched = len(hub.asked(Stage.LAYER))
            at_once("pull", name, "--endpoint", server.endpoint)
            assert [one.reference for one in hub.asked(Stage.LAYER)[fetched:]] == [LAYERS[2].digest]
        assert list(local.tmp.iterdir()) == []


@pytest.mark.engine
@pytest.mark.usefixtures("soon")
@DRIVERS
async def test_a_killed_servers_layers_are_given_back(driver: str) -> None:
    """The next server knows which layers they are, without asking the registry (T14)."""
    with scripted_registry() as hub, store(driver=driver) as local, halted(hub) as name:
        await asyncio.to_thread(killed_in_the_middle, local, name)
        assert layers_of(local) == 2
        asked = len(hub.requests)
        async with opened(local):
            await asyncio.to_thread(until, lambda: layers_of(local) == len(local.layer_folders()) == 0)
        assert len(hub.requests) == asked


def killed_in_the_middle(local: Store, name: str) -> None:
    """Kills a server that pulls, when two layers are in the store."""
    with criimage(store_config(local)) as server:
        command = ["criimage", "pull", name, "--endpoint", server.endpoint]
        with child("client", command, local.folder / "client-log"):
            until(lambda: layers_of(local) == 2)
            server.process.process.kill()
            server.process.process.wait()


def test_a_dead_servers_folder_tells_its_layers(tmp_path: Path) -> None:
    """Those of pulls that ran, and those that had failed before; a living server's are its own (T14)."""
    with work_folder(tmp_path) as living:
        Journal(living, {}).add({"sha256:" + "c" * 64})
        dead = tmp_path / "criimage-work-dead"
        (dead / "pull-1").mkdir(parents=True)
        (dead / "lock").touch()
        copied_file(dead / "pull-1").write_text(f"Getting image source signatures\nCopying blob {DIGEST}\nCopying conf")
        Journal(dead, {"sha256:" + "b" * 64: 5.0})
        left: dict[str, float] = {}
        with work_folder(tmp_path, left) as mine:
            assert set(left) == {DIGEST, "sha256:" + "b" * 64}
            assert left["sha256:" + "b" * 64] == 5.0
            assert abs(left[DIGEST] - time.time()) < 60
            Journal(mine, left)
            assert left_behind(mine) == left
        assert not dead.exists()


def test_the_book_of_layers(tmp_path: Path) -> None:
    """What was added is due after its time, is written down, and is forgotten (T14)."""
    book = Journal(tmp_path, {"old": 0.0})
    book.add({"new"})
    assert book.due(3600) == {"old"}
    assert set(left_behind(tmp_path)) == {"old", "new"}
    book.forget({"old", "new"})
    assert book.due(0) == set()
    assert left_behind(tmp_path) == {}
    assert copied_blobs(tmp_path) == set()


def test_a_damaged_book_is_none(tmp_path: Path) -> None:
    """A killed server may leave anything; the next one starts all the same (T14)."""
    for text in ("", "[]", '{"a": "b"}', "\0"):
        (tmp_path / "lock").write_text(text)
        assert left_behind(tmp_path) == {}
