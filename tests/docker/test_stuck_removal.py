"""A removal on an engine that does not answer ends, tells why, and loses no name in silence."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from criimage.errors import RemovalCancelled, RemovalTimeout
from criimage.reference import Lookup
from criimage.removals import Removals
from criimage.testing.oci import image, layer
from criimage.work import Work
from parts.docker_backend import docker_backend, following, pull
from parts.engine import Kind

if TYPE_CHECKING:
    from criimage.reference import ImageID, Reference
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.mark.parametrize("found", [False, True], ids=["before it is found", "as it is removed"])
async def test_a_frozen_engine(docker: Engine, hub: Registry, monkeypatch: pytest.MonkeyPatch, *, found: bool) -> None:
    """The caller is told what was waited for; thawed, the engine shows the image whole or gone, and a retry removes it.

    The engine may carry out what it had been asked before it froze.
    """
    monkeypatch.setattr("criimage.removals.LOOK_SECONDS", 1.0)
    made = image(layer({"a": b"x"}))
    names = [hub.push(made, "stuck", tag) for tag in ("1", "2")]
    async with docker_backend(docker.host) as backend, Work() as work:
        for name in names:
            await pull(backend, name)
        await following(backend)
        removals = Removals(backend, work, 3.0)
        with contextlib.ExitStack() as frozen:
            if found:
                remove = backend.remove

                async def removed_frozen(lookup: Lookup) -> None:
                    frozen.enter_context(docker.frozen())
                    await remove(lookup)

                monkeypatch.setattr(backend, "remove", removed_frozen)
            else:
                frozen.enter_context(docker.frozen())
            with pytest.raises(RemovalTimeout) as caught:
                await removals.remove(Lookup.parse(names[0]))
        what, state = "the Docker engine", "the image is still there"
        if docker.kind is Kind.DEBIAN13_CONTAINERD:
            # Where a removal has no event, nothing is said without the engine.
            what = "the Docker engine" if found else "the store to find the image"
            state = "whether the image is still there could not be seen" if found else "nothing had been touched"
        assert caught.value.text == f"removal cut off: waited for {what}, not complete within 3s: {names[0]}; {state}"
        monkeypatch.undo()
        for name in names:
            await Removals(backend, work).remove(Lookup.parse(name))
        assert docker.images() == []
        await work.drain()
        assert removals.running() == ()


async def test_names_taken_before_a_cancel_come_back(
    docker: Engine, hub: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine hangs at the second of three names: the operator ends the removal, and the image has all of them."""
    made = image(layer({"a": b"x"}))
    names = [hub.push(made, "several", tag) for tag in ("1", "2", "3")]
    async with docker_backend(docker.host) as backend, Work() as work:
        for name in names:
            await pull(backend, name)
        await following(backend)
        removals, engine = Removals(backend, work), backend._remover._engine
        delete, asked = engine.delete, list[str]()

        async def hang_at_the_second(what: ImageID | Reference) -> None:
            asked.append(str(what))
            if len(asked) == 2:
                assert removals.cancel("1")
                await asyncio.Event().wait()
            await delete(what)

        monkeypatch.setattr(engine, "delete", hang_at_the_second)
        with pytest.raises(
            RemovalCancelled, match=r"waited for the Docker engine: .*several:1; the image is still there"
        ):
            await removals.remove(Lookup.parse(names[0]))
        assert len(asked) == 2
        (left,) = docker.images()
        assert sorted(left["RepoTags"]) == names
