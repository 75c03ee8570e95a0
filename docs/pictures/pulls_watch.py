#!/usr/bin/env python3
# ruff: noqa: E402 - a script of its own, that finds the tests' parts first
"""Makes `pulls-watch.svg`: `criimage pulls --watch` as a terminal shows it during real pulls.

Registries with their own speeds and faults, a containers-storage store, the server, and the command on a
pseudo-terminal; the frame that shows the most phases at once is the picture. Needs root and skopeo:

    python docs/pictures/pulls_watch.py
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from rich.console import Console
from rich.text import Text

from criimage.channel import Channel
from criimage.cri.runtime.v1 import ImageSpec, PodSandboxConfig, PodSandboxMetadata, PullImageRequest
from criimage.testing.oci import image, noise_layer
from criimage.testing.scripted_registry import Hang, ScriptedRegistry, Stage, Trickle, scripted_registry
from parts.criimage_process import criimage, store_config
from parts.store import store
from pulls.scenarios import zeros_layer
from pulls.terminal import on_a_terminal

if TYPE_CHECKING:
    from pulls.terminal import Terminal

COLUMNS = 112
"""As wide as can be read where the page is as wide as a page of text."""
_REDRAWN = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_WANTED = ("done", "downloading", "unpacking", "queued", "resolving")
_USUAL = re.compile(r"shop/(?:web|db)\S*\s+\S*downloading|model\S*\s+\S*unpacking")
_LIMITS = "[pulls]\nmax_parallel_per_registry = 2\n"


def stocked(shop: ScriptedRegistry, tools: ScriptedRegistry) -> None:
    """Puts the images there, and has the registries be slow or say nothing."""
    base = noise_layer(9_000_000)
    for number, name in enumerate(("web", "db", "cache")):
        shop.put(image(base, noise_layer(38_000_000 + 17_000_000 * number, seed=name)), f"shop/{name}", "2.7")
        shop.script(Stage.LAYER, Trickle(260_000 + 90_000 * number, 0.05), repository=f"shop/{name}")
    shop.put(image(base), "base/debian", "13")
    tools.put(image(noise_layer(700_000)), "tools/probe", "1.0")
    tools.put(image(zeros_layer(900 * 2**20)), "data/model", "3")
    tools.put(image(base), "tools/lost", "1.0")
    tools.script(Stage.MANIFEST, Hang(), repository="tools/lost")


async def pull(channel: Channel, name: str, pod: str) -> None:
    """Asks for a pull as a kubelet does."""
    namespace, _, podname = pod.partition("/")
    request = PullImageRequest(image=ImageSpec(image=name))
    request.sandbox_config = PodSandboxConfig(metadata=PodSandboxMetadata(name=podname, namespace=namespace))
    await channel.unary("/runtime.v1.ImageService/PullImage", bytes(request))


def frames(terminal: Terminal) -> list[str]:
    """Everything that the command has drawn so far, one after the other."""
    return _REDRAWN.split(terminal.output.decode("utf-8", "replace"))


async def captured(socket: Path) -> str:
    """Runs pulls and the command, and returns the frame that shows the most."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(Channel(socket))
        await pull(channel, "hub.example/base/debian:13", "")
        command = ("pulls", "--watch", "--endpoint", f"unix://{socket}")
        terminal = await stack.enter_async_context(on_a_terminal(*command, columns=COLUMNS))
        await terminal.shows("No pulls")
        begun = [
            asyncio.create_task(pull(channel, f"{registry}/{name}", pod))
            for registry, name, pod in (
                ("hub.example", "shop/web:2.7", "shop/web-0"),
                ("hub.example", "shop/db:2.7", "shop/db-0"),
                ("hub.example", "shop/db:2.7", "shop/db-1"),
                ("hub.example", "shop/cache:2.7", "shop/cache-0"),
                ("tools.example", "tools/lost:1.0", "kube-system/lost-x7k"),
            )
        ]
        await asyncio.sleep(8)
        begun.append(asyncio.create_task(pull(channel, "tools.example/data/model:3", "ml/train-1")))
        await terminal.shows("unpacking")
        await pull(channel, "tools.example/tools/probe:1.0", "kube-system/probe-f2c")
        await terminal.shows("done")
        await asyncio.sleep(1)
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        # On a busy machine a registry may say nothing for a moment: the frame is to show each pull as it mostly is.
        return max(frames(terminal), key=lambda one: (len(_USUAL.findall(one)), sum(word in one for word in _WANTED)))


def drawn(frame: str) -> str:
    """Returns the frame as SVG, without fonts from elsewhere."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(frame.rstrip().replace("\r\n", "\n")))
    return _FONT_FACE.sub("", console.export_svg(title="criimage pulls --watch", unique_id="pulls-watch"))


def main() -> None:
    """Makes the picture."""
    with scripted_registry() as shop, scripted_registry() as tools:
        stocked(shop, tools)
        places = {"hub.example": shop.address, "tools.example": tools.address}
        entry = '[[registry]]\nprefix = "{}"\nlocation = "{}"\ninsecure = true\n'
        registries = "".join(entry.format(*place) for place in places.items())
        with store(registries=registries) as local, criimage(store_config(local, more=_LIMITS)) as server:
            frame = asyncio.run(captured(server.socket))
    (HERE / "pulls-watch.svg").write_text(drawn(frame))


if __name__ == "__main__":
    main()
