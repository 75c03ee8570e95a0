"""Many at once, through the whole server: all right, and the memory it takes (issue 5, it must show)."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from criimage.channel import Channel
from criimage.cri.runtime.v1 import ImageSpec, ListImagesResponse, PullImageRequest, PullImageResponse
from criimage.testing.oci import image, layer, noise_layer
from criimage.testing.scripted_registry import Hang, Stage, scripted_registry
from parts.criimage_process import criimage, store_config
from parts.store import store

if TYPE_CHECKING:
    from parts.criimage_process import Criimage
    from pulls.conftest import Measured

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

CALLERS = 500
CONNECTIONS = 10
IMAGES = 200
IN_FLIGHT = 16


def peak(server: Criimage) -> float:
    """The most memory that the server itself has held so far, MiB."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


async def pull(channel: Channel, name: str) -> str:
    """Pulls over the wire and returns the image_ref."""
    request = bytes(PullImageRequest(image=ImageSpec(image=name)))
    return PullImageResponse().parse(await channel.unary("/runtime.v1.ImageService/PullImage", request)).image_ref


async def stored(channel: Channel) -> int:
    """How many images there are."""
    answer = await channel.unary("/runtime.v1.ImageService/ListImages", b"")
    return len(ListImagesResponse().parse(answer).images)


async def test_500_callers_on_one_image(measured: Measured) -> None:
    """On ten connections, while the layer hangs: one download, the right answer for each."""
    made = image(noise_layer(1_000_000))
    with scripted_registry() as hub, store() as local, criimage(store_config(local)) as server:
        name = hub.put(made, "team/app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=500_000))
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(Channel(server.socket)) for _ in range(CONNECTIONS)]
            before = peak(server)
            calls = [asyncio.create_task(pull(channels[n % CONNECTIONS], name)) for n in range(CALLERS)]
            await hub.until(lambda: hang.reached)
            for channel in channels:
                await stored(channel)  # behind the pulls on its connection: they are all there now
            began = time.monotonic()
            hub.release()
            answers = await asyncio.gather(*calls)
            took = time.monotonic() - began
            assert set(answers) == {made.id.removeprefix("sha256:")}
            assert await stored(channels[0]) == 1
        assert len(hub.asked(Stage.LAYER)) == 1
        after = peak(server)
        server.stop()
        assert server.log_text().count("pull finished") == 1
    measured(f"peak {after:.0f} MiB, {before:.0f} MiB before; all answered {took:.2f} s after the release")


async def test_200_images_16_in_flight(measured: Measured) -> None:
    """Each its own small image, on a base that they share: all there and right, the base fetched once."""
    base = noise_layer(100_000)
    images = [image(base, layer({"number": str(number).encode()})) for number in range(IMAGES)]
    with scripted_registry() as hub, store() as local, criimage(store_config(local)) as server:
        names = [hub.put(made, f"team/app{number}", "1") for number, made in enumerate(images)]
        async with Channel(server.socket) as channel:
            slots = asyncio.Semaphore(IN_FLIGHT)

            async def one(name: str) -> str:
                async with slots:
                    return await pull(channel, name)

            before = peak(server)
            began = time.monotonic()
            answers = [await one(names[0]), *await asyncio.gather(*map(one, names[1:]))]
            took = time.monotonic() - began
            assert answers == [made.id.removeprefix("sha256:") for made in images]
            assert await stored(channel) == IMAGES
        fetched = [request.reference for request in hub.asked(Stage.LAYER)]
        assert fetched.count(base.digest) == 1
        assert len(fetched) == IMAGES + 1
        after = peak(server)
        server.stop()
        assert server.log_text().count("pull finished") == IMAGES
    measured(f"peak {after:.0f} MiB, {before:.0f} MiB before; {took:.1f} s, {IMAGES / took:.1f} images a second")
