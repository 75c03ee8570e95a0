"""Claim: nothing of a call, a failed pull or a cancelled one stays, neither memory nor descriptors nor files."""

from __future__ import annotations

import asyncio
import platform
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attack.target import HEALTH, LIST, PULL, Target, field, opened, pull_request
from criimage.testing.scripted_registry import Answer, Hang, Stage
from parts.raw_client import framed, grpc_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.testing.scripted_registry import Script

MIB = 2**20
STATUS = "/runtime.v1.ImageService/ImageStatus"
CALLS = (
    (LIST, b""),
    (STATUS, field(1, field(1, "example.com/not/there"))),
    ("/runtime.v1.RuntimeService/Version", b""),
    ("/runtime.v1.RuntimeService/Status", b""),
    ("/runtime.v1alpha2.ImageService/ListImages", b""),
    ("/runtime.v1.ImageService/ImageFsInfo", b""),
    (HEALTH, b""),
    ("/runtime.v1.ImageService/RemoveImage", field(1, field(1, "example.com/not/there"))),
    (PULL, pull_request("Not A Name")),
    ("/no.Such/Method", b""),
)


def held(target: Target) -> dict[str, int]:
    """What the server's process has now; the tasks of its event loop by its own account."""
    process = Path(f"/proc/{target.server.process.pid}")
    children = "".join((task / "children").read_text() for task in (process / "task").iterdir())
    files = [*target.store.tmp.rglob("*")] if target.store else []
    return {
        "descriptors": len([*(process / "fd").iterdir()]),
        "threads": len([*(process / "task").iterdir()]),
        "tasks": tasks(target.metrics),
        "children": len(children.split()),
        "temporary files": len(files),
    }


def tasks(metrics: str) -> int:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("criimage_tasks{")).rpartition(" ")[2]))


async def calls(target: Target, count: int) -> None:
    """Make mixed calls, 100 at once, on a new connection now and then."""
    for _ in range(count // 1000):
        async with target.client() as client:
            for _ in range(10):
                made = [client.prepare(grpc_headers(path), framed(body)) for path, body in CALLS * 10]
                await client.flush()
                for answer in made:
                    await answer.finished()


async def failed_pulls(target: Target, count: int) -> None:
    """Pull what the registry denies, 8 at once."""
    script = target.registry.script(Stage.MANIFEST, Answer(403, b"no"), repository="denied/image")
    slots = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with slots:
            answer = await target.pull(f"{target.registry.address}/denied/image:t{number}")
            assert answer.status == 2

    await asyncio.gather(*(one(number) for number in range(count)))
    script.release()


async def cancelled_pulls(target: Target, count: int) -> None:
    """Cancel pulls, 8 at once, that wait for their manifest."""
    script = target.registry.script(Stage.MANIFEST, Hang(), repository="hanging/image")
    async with target.client() as client:
        for start in range(0, count, 8):
            reached = script.reached
            made = [
                await client.send(
                    grpc_headers(PULL),
                    framed(pull_request(f"{target.registry.address}/hanging/image:t{start + number}")),
                )
                for number in range(8)
            ]
            await target.registry.until(partial(_beyond, script, reached))
            for answer in made:
                client.cancel(answer)
            await client.flush()
    script.release()


def _beyond(script: Script, reached: int) -> bool:
    return script.reached > reached


async def quiet(target: Target, before: dict[str, int]) -> dict[str, int]:
    """Wait until as little is held as before, or for a minute, and return what is held."""
    now = await asyncio.to_thread(held, target)
    for _ in range(600):
        now = await asyncio.to_thread(held, target)
        if all(now[name] <= before[name] for name in before if name != "threads"):
            break
        await asyncio.sleep(0.1)
    return now


async def at_rest(target: Target) -> dict[str, int]:
    """Wait until what is held has been the same for a second, or for a minute, and return it."""
    seen: list[dict[str, int]] = []
    for _ in range(300):
        seen.append(await asyncio.to_thread(held, target))
        if len(seen) > 5 and all(one == seen[-1] for one in seen[-5:]):
            break
        await asyncio.sleep(0.2)
    return seen[-1]


async def lived(backend: str, mixed: int, failed: int, cancelled: int) -> tuple[dict[str, int], dict[str, int], int]:
    """Return what the server held before and after, and how many bytes it grew, after a tenth of all to warm up."""
    async with opened(backend) as target:
        await calls(target, max(1000, mixed // 10))
        if backend != "memory":
            await failed_pulls(target, max(8, failed // 10))
            await cancelled_pulls(target, max(8, cancelled // 10))
        before, memory = await at_rest(target), target.memory()
        await calls(target, mixed)
        if backend != "memory":
            await failed_pulls(target, failed)
            await cancelled_pulls(target, cancelled)
        return before, await quiet(target, before), target.memory() - memory


def judge(before: dict[str, int], after: dict[str, int], grown: int) -> None:
    """Nothing has grown but what a pool may have: a few threads, and memory within what an allocator keeps."""
    for name in ("descriptors", "tasks", "children", "temporary files"):
        assert after[name] <= before[name] + 2, f"{name}: {before} then {after}"
    assert after["threads"] <= 60, after
    assert grown < 16 * MIB, f"{grown >> 20} MiB"


@pytest.mark.engine
async def test_a_short_life_leaves_nothing() -> None:
    """The short form of what `make long` does: 3,000 calls, 24 failed and 16 cancelled pulls on a real store."""
    judge(*await lived("containers-storage", 3000, 24, 16))


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("backend", ["memory", "containers-storage", "docker"])
async def test_a_long_life_leaves_nothing(backend: str, long_run: Callable[[str, str], None]) -> None:
    """300,000 mixed calls, 2,000 failed and 1,000 cancelled pulls."""
    before, after, grown = await lived(backend, 300_000, 2_000, 1_000)
    told = ", ".join(f"{name} {before[name]} → {after[name]}" for name in before)
    long_run(f"Linux {platform.release()}", f"{told}, memory {grown / MIB:+.1f} MiB")
    judge(before, after, grown)
