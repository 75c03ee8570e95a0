"""Pulls that are cut short at every moment of a copy: what is in the store afterwards is whole, and somebody's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.command import at_once
from containers_storage.crio import crio_container, read, write
from containers_storage.opened import opened, until
from criimage import errors
from criimage.reference import Reference
from criimage.testing.oci import image, layer, noise_layer
from criimage.testing.scripted_registry import Hang, Stage, scripted_registry
from criimage_containers_storage.pulling import leftovers
from criimage_containers_storage.store.busy import other_tools
from criimage_containers_storage.store.storage_conf import Layout
from parts.child import child
from parts.criimage_process import criimage, store_config
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from collections.abc import Callable

    from parts.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

MOMENTS = 16
BASE = noise_layer(50_000)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is looked at again soon."""
    monkeypatch.setattr(leftovers, "LOOK_SECONDS", 0.05)


def numbered(number: int) -> Any:  # noqa: ANN401 - an image
    """An image like others, with a layer and a configuration of its own."""
    return image(BASE, noise_layer(30_000, seed=100 + number), layer({"n": str(number).encode()}))


def records(local: Store) -> list[dict[str, Any]]:
    """All images of the store."""
    return read(local.root / f"{local.driver}-images/images.json")


def nameless(local: Store) -> list[str]:
    """The records that nobody has given a name."""
    return [record["id"] for record in records(local) if not record.get("names")]


def entries(local: Store) -> list[Path]:
    """What the journal has not settled."""
    return list(local.root.glob("criimage/*/*/entry.json"))


def owned(local: Store) -> None:
    """Every layer is an image's or another's, or the journal knows it; every image is whole."""
    layers = {record["id"]: record for record in read(local.root / f"{local.driver}-layers/layers.json")}
    has_owner: set[str] = set()
    for record in records(local):
        at = record.get("layer", "")
        while at:
            assert at in layers, f"image {record['id']} has lost a layer"
            has_owner.add(at)
            at = layers[at].get("parent", "")
        assert {"manifest"} <= set(record["big-data-names"])
    known = "".join((entry.parent / "copied").read_text() for entry in entries(local))
    for identity in set(layers) - has_owner:
        incomplete = (layers[identity].get("flags") or {}).get("incomplete")
        assert incomplete or layers[identity]["compressed-diff-digest"] in known, f"nobody knows layer {identity}"


async def at_rest(local: Store) -> None:
    """Waits until no record without a name is left."""
    await asyncio.to_thread(until, lambda: not nameless(local))


@pytest.mark.usefixtures("each_skopeo")
async def test_a_cancel_at_every_moment() -> None:
    """The caller has its answer; the image is there with its name or not at all, and no layer is lost (A3, T14)."""
    with registry() as hub, store() as local:
        async with opened(local) as under_test:
            whole = 0
            began = asyncio.get_running_loop().time()
            await under_test.pull(hub.push(numbered(99), "app", "99"))
            length = asyncio.get_running_loop().time() - began
            for number in range(MOMENTS):
                name = hub.push(numbered(number), "app", str(number))
                task = asyncio.create_task(under_test.pull(name))
                await asyncio.sleep(length * 1.2 * number / MOMENTS)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                await at_rest(local)
                whole += any(name in record["names"] for record in records(local))
                owned(local)
            assert len(records(local)) == whole + 1
        owned(local)


def record_appears(local: Store, known: int) -> Callable[[], bool]:
    """Whether one more record is there; it has no name yet for a moment."""
    return lambda: len(records(local)) > known


@pytest.mark.usefixtures("each_skopeo")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_killed_as_the_record_appears(number: signal.Signals) -> None:
    """A skopeo that dies in the middle of its commit leaves nothing that nobody can use (A3: 25 of 25 did)."""
    with registry() as hub, store() as local:
        async with opened(local) as under_test:
            await under_test.pull(hub.push(numbered(99), "app", "99"))
            for turn in range(6):
                name = hub.push(numbered(turn), "app", str(turn))
                task = asyncio.create_task(under_test.pull(name))
                await asyncio.to_thread(kill_when, record_appears(local, len(records(local))), name, number)
                with contextlib.suppress(errors.CriimageError):
                    await task
                await at_rest(local)
                owned(local)
                await under_test.pull(name)
                assert any(name in record["names"] for record in records(local))


def kill_when(condition: Callable[[], object], name: str, number: signal.Signals) -> None:
    """Kills the skopeo that copies a name as soon as something is so."""
    until(lambda: condition() or not copying(name))
    for process in copying(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def copying(name: str) -> list[int]:
    """The processes that copy a name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if b"copy" in arguments and f"docker://{name}".encode() in arguments:
                found.append(int(folder.name))
    return found


@pytest.mark.usefixtures("each_skopeo")
async def test_another_skopeo_pulls_the_same() -> None:
    """Its pull succeeds and its image stays, whenever ours is cancelled (A2, A3)."""
    with registry() as hub, store() as local:
        async with opened(local) as under_test:
            for number in range(8):
                name = hub.push(numbered(number), "app", str(number))
                task = asyncio.create_task(under_test.pull(name))
                other = asyncio.create_task(asyncio.to_thread(local.pull, name))
                await asyncio.sleep(0.04 * number)
                task.cancel()
                await asyncio.wait({task})
                await other
                await at_rest(local)
                owned(local)
                assert await under_test.status(name) is not None
        assert len(records(local)) == 8


@pytest.mark.parametrize("moment", ["download", "commit", "named"])
def test_a_killed_server_is_finished_by_the_next(moment: str) -> None:
    """`kill -9` in the middle: the next start ends what runs and takes back half an image, and no other (A3)."""
    with scripted_registry() as hub, store() as local:
        local.pull(hub.put(numbered(99), "kept", "1"))
        for turn in range(3 if moment == "commit" else 1):
            made = numbered(turn)
            name = hub.put(made, "app", str(turn))
            if moment == "download":
                hub.script(Stage.LAYER, Hang(after=1000), reference=made.layers[-1].digest)
            with criimage(store_config(local)) as server:
                command = ["criimage", "pull", name, "--endpoint", server.endpoint]
                with child("client", command, local.folder / "client-log"):
                    if moment == "download":
                        until(lambda: len(local.layers()) == 4)
                    elif moment == "commit":
                        until(record_appears(local, 1))
                    else:
                        until(name_appears(local, name))
                    server.process.process.kill()
                    server.process.process.wait()
            with criimage(store_config(local)) as server:
                until(at_rest_without(local, name))
                shown = json.loads(at_once("images", "--output", "json", "--endpoint", server.endpoint))["images"]
                assert len(shown) == len(records(local)) == (2 if moment == "named" else len(records(local)))
                hub.release()
                at_once("pull", name, "--endpoint", server.endpoint)
                at_once("rmi", name, "--endpoint", server.endpoint)
            owned(local)
            assert len(records(local)) == 1


def name_appears(local: Store, name: str) -> Callable[[], bool]:
    """Whether an image has this name."""
    return lambda: any(name in names for names in local.images().values())


def at_rest_without(local: Store, name: str) -> Callable[[], bool]:
    """Whether nobody copies a name any more, and no half image is left."""
    return lambda: not nameless(local) and not copying(name)


def give_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nobody wait for a retry."""
    monkeypatch.setattr(leftovers, "WAIT_SECONDS", 0.0)


@pytest.mark.usefixtures("each_skopeo")
async def test_what_was_there_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of another tool's that our failed pull had counted on is not given back; our own are (A2)."""
    give_back_at_once(monkeypatch)
    last = noise_layer(100_000, seed=7)
    with scripted_registry() as hub, store() as local:
        foreign = left_by_another(hub, local)
        assert foreign
        mine = image(BASE, noise_layer(30_000, seed=100), last)
        name = hub.put(mine, "mine", "1")
        hub.script(Stage.LAYER, Hang(after=1000), reference=last.digest)
        async with opened(local) as under_test:
            task = asyncio.create_task(under_test.pull(name))
            await asyncio.to_thread(until, lambda: len(complete(local)) == len(foreign) + 1)
            task.cancel()
            await asyncio.wait({task})
            # What we wrote stands on what was there: with it alone that would go, so it stays as well.
            await asyncio.to_thread(until, lambda: not entries(local))
            assert foreign <= complete(local)


def left_by_another(hub: Any, local: Store) -> set[str]:  # noqa: ANN401 - a scripted registry
    """A layer that another tool's killed copy has left, and its ID."""
    lost = noise_layer(90_000, seed=55)
    name = hub.put(image(BASE, lost), "theirs", "1")
    hub.script(Stage.LAYER, Hang(after=1000), reference=lost.digest)
    where = ["--registries-conf", str(local.registries_conf), "--policy", str(local.policy), "--tmpdir", str(local.tmp)]
    with subprocess.Popen(["skopeo", *where, "copy", "-q", f"docker://{name}", local.reference(name)]) as process:
        until(lambda: len(complete(local)) == 1)
        process.kill()
    hub.release()
    return complete(local)


def complete(local: Store) -> set[str]:
    """The layers that are whole."""
    found = read(local.root / f"{local.driver}-layers/layers.json")
    return {record["id"] for record in found if not (record.get("flags") or {}).get("incomplete")}


@pytest.mark.usefixtures("each_skopeo")
async def test_nothing_is_given_back_under_another_tools_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as another tool is at work on the store it may count on them; afterwards they go (A2)."""
    give_back_at_once(monkeypatch)
    first, second = noise_layer(100_000, seed=7), noise_layer(100_000, seed=8)
    with scripted_registry() as hub, store() as local:
        name, theirs = hub.put(image(BASE, first), "mine", "1"), hub.put(image(BASE, second), "theirs", "1")
        for one in (first, second):
            hub.script(Stage.LAYER, Hang(after=1000), reference=one.digest)
        async with opened(local) as under_test:
            task = asyncio.create_task(under_test.pull(name))
            await asyncio.to_thread(until, lambda: len(complete(local)) == 1)
            other = asyncio.create_task(asyncio.to_thread(local.pull, theirs))
            await asyncio.to_thread(until, lambda: len(hub.asked(Stage.LAYER)) >= 3)
            layout = Layout(local.root, local.run_root, local.driver)
            ours = copying(name)
            assert [one.split()[0] for one in await asyncio.to_thread(other_tools, layout, ours)] == ["skopeo"]
            task.cancel()
            await asyncio.wait({task})
            await asyncio.sleep(0.5)
            assert len(complete(local)) == 1, "the other copy counts on it"
            hub.release()
            await other
            await asyncio.to_thread(until, lambda: not entries(local))
            assert len(complete(local)) == 2
            assert (await under_test.backend.images())[0].tags == (Reference.parse(theirs),)
            assert not await asyncio.to_thread(other_tools, layout, ())


@pytest.mark.usefixtures("each_skopeo")
async def test_a_nameless_record_that_somebody_uses_stays() -> None:
    """Taken back is what is proven to be ours alone: a container or a name that others gave keeps it (A3)."""
    with registry() as hub, store() as local:
        for number, change in enumerate(("container", "name", "file", "nothing")):
            name = hub.push(numbered(number), "app", str(number))
            async with opened(local) as under_test:
                journal = under_test.backend._opening.value.puller._leftovers._journal  # type: ignore[attr-defined]
                entry = journal.begin(local.tmp)
                local.skopeo("copy", f"docker://{name}", local.reference(name))
                made = numbered(number).id.removeprefix("sha256:")
                said = "".join(f"Copying blob {one.digest}\n" for one in numbered(number).layers)
                entry.lines.write_text(f"{said}Copying config sha256:{made}\nWriting manifest to image destination\n")
                unname(local, made)
                stays = change != "nothing"
                with contextlib.ExitStack() as stack:
                    if change == "container":
                        stack.enter_context(crio_container(local, made))
                    elif change == "name":
                        local.command("add-names", "-n", f"{name}-theirs", made)
                    elif change == "file":
                        local.command("set-image-data", made, "their-file", str(local.policy))
                    await under_test.backend._opening.value.puller._leftovers.after(entry)  # type: ignore[attr-defined]
                    assert (made in local.images()) is stays, change


def unname(local: Store, identity: str) -> None:
    """Takes the traces of a name from a record, as if skopeo had been ended before it gave one."""
    found = records(local)
    for record in found:
        if record["id"] == identity:
            record.pop("names", None)
            record.pop("names-history", None)
    write(local.root / f"{local.driver}-images/images.json", found)
