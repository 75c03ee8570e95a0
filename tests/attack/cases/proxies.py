"""A registry that is against a skopeo that is kept up to ask it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from attack.case import case
from attack.cases.registries import ACTS
from attack.target import PULL, field, pull_request
from criimage.testing.scripted_registry import Hang, Stage
from parts.raw_client import framed, grpc_headers

if TYPE_CHECKING:
    from attack.target import Target
    from criimage.testing.scripted_acts import Act

_ONLY = ("containers-storage",)
_LIMIT = 3


def _proxies(target: Target) -> list[int]:
    """The server's proxies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])
            if parent == target.server.process.pid and b"experimental-image-proxy" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


async def _unchanged(target: Target, name: str, auth: bytes = b"") -> None:
    answer = await target.pull(name, auth)
    assert answer.status == 0, f"answered {answer.status}: {answer.message[:200]}"
    assert len(_proxies(target)) <= _LIMIT


def _hostile(name: str, act: Act) -> None:
    @case("proxy", f"an image that is here, and {name}", backends=_ONLY, first=name == "an empty manifest")
    async def run(target: Target) -> None:
        image = target.fresh()
        await _unchanged(target, image)
        await _unchanged(target, image)
        script = target.registry.script(Stage.MANIFEST, act, repository="attack/image")
        try:
            answer = await target.pull(image)
        finally:
            script.release()
        assert answer.status in {2, 14}, f"answered {answer.status}: {answer.message[:200]}"
        assert answer.message.isprintable()
        await _unchanged(target, image)


for _name, (_stage, _act) in ACTS.items():
    if _stage is Stage.MANIFEST:
        _hostile(_name, _act)


@case("proxy", "twenty pulls of images that are here hang, and are cancelled", backends=_ONLY)
async def hanging(target: Target) -> None:
    """Three proxies at most; all are gone when nobody waits, and their credentials with them."""
    password = "s3cr3t-p4ssw0rd-3"  # noqa: S105 - of nobody
    auth = field(1, "user") + field(2, password)
    images = [target.fresh() for _ in range(20)]
    for image in images:
        await _unchanged(target, image, auth)
    script = target.registry.script(Stage.MANIFEST, Hang(), repository="attack/image")
    try:
        async with target.client() as client:
            calls = [await client.send(grpc_headers(PULL), framed(pull_request(image, auth))) for image in images]
            await target.registry.until(lambda: script.reached == len(images))
            hung = _proxies(target)
            assert 0 < len(hung) <= _LIMIT
            for call in calls:
                client.cancel(call)
            await client.flush()
        async with asyncio.timeout(20):
            while set(hung) & set(_proxies(target)):  # noqa: ASYNC110 - other processes are waited for
                await asyncio.sleep(0.1)
    finally:
        script.release()
    await _unchanged(target, images[0], auth)


@case("proxy", "its proxies are killed, again and again", backends=_ONLY)
async def killed(target: Target) -> None:
    """No pull fails for it."""
    image = target.fresh()
    await _unchanged(target, image)
    for pause in (0, 0.002, 0.005, 0.01, 0.02) * 4:
        pull = asyncio.create_task(_unchanged(target, image))
        await asyncio.sleep(pause)
        for process in _proxies(target):
            os.kill(process, signal.SIGKILL)
        await pull
