"""Claims: which questions a call asks the engine, counted instead of timed, so that a regression is seen anywhere."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import aiohttp
import pytest

from criimage.reference import Pattern
from criimage.testing.oci import image, layer
from criimage.testing.scripted_registry import Auth, Hang, Stage
from parts.docker_backend import counted, docker_backend, following, listed, pull, remove, status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from criimage_docker.backend import DockerBackend
    from docker.conftest import Scripted
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

INSPECT, LIST, PULL, PROVE, HISTORY = (
    "GET images/json of one",
    "GET images/json",
    "POST images/create",
    "GET distribution",
    "GET history",
)


@contextmanager
def counting() -> Iterator[list[str]]:
    """What the engine is asked until the block is left, in order."""
    found: list[str] = []
    ask = aiohttp.ClientSession._request

    async def request(session: aiohttp.ClientSession, method: str, url: Any, **more: Any) -> aiohttp.ClientResponse:  # noqa: ANN401
        path = str(url).partition("?")[0]
        kind = next((part for part in ("distribution", "history", "images/create", "images/json") if part in path), "")
        if not kind and "/images/" in path and method == "GET":
            kind = "images/json of one"
        if "_ping" not in path and "/events" not in path:
            found.append(f"{method} {kind or path.rpartition('/')[2]}")
        return await ask(session, method, url, **more)

    with patch.object(aiohttp.ClientSession, "_request", request):
        yield found


async def _unfiltered(backend: DockerBackend, _name: str) -> None:
    assert await listed(backend)


async def _filtered(backend: DockerBackend, name: str) -> None:
    assert await backend.images(Pattern.parse(name))


async def _known(backend: DockerBackend, name: str) -> None:
    assert await status(backend, name)


async def _verbose(backend: DockerBackend, name: str) -> None:
    assert await status(backend, name, verbose=True)


async def _absent(backend: DockerBackend, _name: str) -> None:
    assert await status(backend, "registry.example.com/none:1") is None


async def _usage(backend: DockerBackend, _name: str) -> None:
    assert (await backend.usage()).images


async def _again(backend: DockerBackend, name: str) -> None:
    await pull(backend, name)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(
    ("call", "asked", "of_containerd"),
    [
        (_unfiltered, [], []),
        (_filtered, [], []),
        (_known, [], [INSPECT]),
        (_verbose, [INSPECT, HISTORY], [INSPECT, HISTORY]),
        (_absent, [INSPECT], [INSPECT]),
        (_usage, [], []),
        (_again, [PULL], [PULL]),
    ],
)
async def test_what_a_call_asks(
    docker: Engine,
    hub: Registry,
    call: Callable[[DockerBackend, str], Coroutine[Any, Any, None]],
    asked: list[str],
    of_containerd: list[str],
) -> None:
    """Issue 12.4: on an engine that has not changed, nothing but what only it can say, and that once."""
    name = hub.push(image(layer({"for": b"counts"})), "counts/calls", "1")
    async with docker_backend(docker.host) as backend:
        await pull(backend, name)
        await following(backend)
        await call(backend, name)
        wanted = of_containerd if docker.kind.containerd_store else asked

        async def count() -> list[str]:
            with counting() as found:
                await call(backend, name)
            return found

        assert await counted(backend, count, lambda found: found == wanted) == wanted


async def test_what_a_removal_asks(docker: Engine, hub: Registry) -> None:
    """Issue 12.4: a bounded number of questions, whatever the image."""
    name = hub.push(image(layer({"for": b"counted removal"})), "counts/removal", "1")
    async with docker_backend(docker.host) as backend:
        await pull(backend, name)
        await following(backend)
        with counting() as found:
            await remove(backend, name)
        assert len(found) <= 6, found


async def test_a_digest_is_proved_while_the_engine_pulls(docker: Engine, scripted: Scripted) -> None:
    """Issue 12: by a digest that is here under this name, the engine is told to pull while the registry is asked.

    Whoever may not have it is refused all the same, and nothing has changed then.
    """
    made = image(layer({"for": b"meanwhile"}))
    async with docker_backend(docker.host) as backend:
        with scripted(auth=Auth.NONE) as hub:
            name = hub.put(made, "counts/digest", "1").removesuffix(":1") + f"@{made.digest}"
            pulled = await pull(backend, name)
            await following(backend)
            hang = hub.script(Stage.MANIFEST, Hang())
            with counting() as found:
                pulling = asyncio.create_task(pull(backend, name))
                await hub.until(lambda: hang.reached)
                told = list(found)
                pulling.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await pulling
            assert sorted(told) == ([PULL] if docker.kind.containerd_store else [PROVE, PULL])
            hub.release()
            assert await pull(backend, name) == pulled
