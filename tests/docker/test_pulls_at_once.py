"""Pulls beside each other, and pulls that nobody waits for any more, on real engines (docker P20, P21, A2, A3)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from criimage.testing.oci import image, layer, noise_layer
from criimage.testing.scripted_registry import Hang, Stage, Trickle
from parts.docker_backend import docker_backend, pull, status
from parts.serving import until

if TYPE_CHECKING:
    from docker.conftest import Scripted
    from parts.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


async def test_a_cancel_stops_the_transfer(docker: Engine, scripted: Scripted) -> None:
    """P20, A2: the engine lets go of the registry within a second, the image is not there, and a retry works."""
    made = image(noise_layer(3_000_000, seed=4))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(made, "team/cancel", "1")
            trickle = hub.script(Stage.LAYER, Trickle(10_000, 0.05))
            pulling = asyncio.create_task(pull(backend, name))
            await hub.until(lambda: trickle.reached)
            pulling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pulling
            # A second is what is promised; the rest is for machines with other things to do. The layer takes 15.
            await hub.until(lambda: not hub.open(Stage.LAYER))
            (stopped,) = hub.asked(Stage.LAYER)
            assert await backend.images() == ()

            hub.release()
            pulled = await pull(backend, name)

    assert stopped.sent < 3_000_000
    assert len(pulled.tags) == 1


@pytest.mark.parametrize("stage", [Stage.MANIFEST, Stage.LAYER])
async def test_a_cancel_while_the_registry_hangs(docker: Engine, scripted: Scripted, stage: Stage) -> None:
    """P20: the engine gives the pull up at once, also where it can only wait for the registry's next byte.

    The graph drivers' client keeps its connection until then; containerd's closes it.
    """
    made = image(noise_layer(3_000_000, seed=stage.value))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(made, "team/hung", "1")
            hang = hub.script(stage, Hang(after=None if stage is Stage.MANIFEST else 100_000))
            pulling = asyncio.create_task(pull(backend, name))
            await hub.until(lambda: hang.reached and hub.open(stage))
            before = docker.log_text().count("context canceled")
            pulling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pulling
            if docker.kind.containerd_store:
                await hub.until(lambda: not hub.open(stage))
            elif stage is Stage.LAYER:
                await until(lambda: docker.log_text().count("context canceled") > before)
            assert await backend.images() == ()

            hub.release()
            pulled = await pull(backend, name)

    assert len(pulled.tags) == 1


async def test_one_of_two_pulls_is_cancelled(docker: Engine, scripted: Scripted) -> None:
    """P21: two pulls of one image share the transfer; cancelling one leaves the other alone."""
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(image(noise_layer(1_000_000, seed=5)), "team/shared", "1")
            hang = hub.script(Stage.LAYER, Hang(after=100_000))
            first = asyncio.create_task(pull(backend, name))
            second = asyncio.create_task(pull(backend, name))
            await hub.until(lambda: hang.reached)
            await asyncio.sleep(0.3)
            first.cancel()
            await asyncio.wait({first})
            hub.release()
            pulled = await second

        assert await backend.images() == (pulled,)


async def test_a_hundred_hung_pulls(docker: Engine, scripted: Scripted) -> None:
    """A3: with a hundred pulls that hang, lists, statuses, pings and another pull go on."""
    async with docker_backend(docker.host, cache=False) as backend:
        with scripted() as hub, scripted() as other:
            hub.script(Stage.MANIFEST, Hang())
            # No engine asks a registry a hundred things at once for one name: these are all different.
            names = [hub.put(image(layer({"number": str(number).encode()})), f"hung/{number}") for number in range(100)]
            pulls = [asyncio.create_task(pull(backend, name)) for name in names]
            await hub.until(lambda: len(hub.open(Stage.MANIFEST)) == 100, seconds=120)
            async with asyncio.timeout(60):
                assert await backend.images() == ()
                pulled = await pull(backend, other.put(image(layer({"for": b"other"})), "team/other"))
                found = await status(backend, str(pulled.id))
                assert await backend.check() == ()
            for one in pulls:
                one.cancel()
            await asyncio.wait(pulls)

    assert found is not None


async def test_many_pulls_at_once(docker: Engine, scripted: Scripted) -> None:
    """The contract: every pull returns its own image, with the name it was asked for."""
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            names = [hub.put(image(layer({"number": str(number).encode()})), f"many/{number}") for number in range(16)]
            pulled = await asyncio.gather(*(pull(backend, name) for name in names))
        images = await backend.images()

    assert [[str(tag) for tag in one.tags] for one in pulled] == [[name] for name in names]
    assert {one.id for one in images} == {one.id for one in pulled}
