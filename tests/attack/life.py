"""A long life of one server: mixed calls, failed pulls and cancelled ones; and what it has of them when it is at rest.

    python -m attack.life [--backend NAME] [--calls N] [--failed N] [--cancelled N]

Prints what the server had before and after, and a line for each twentieth of the way. Ends with 1 if anything grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
import urllib.request
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attack.target import BACKENDS, HEALTH, LIST, PULL, Target, field, opened, pull_request
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
    children = ""
    for task in (process / "task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            children += (task / "children").read_text()
    folders = [target.server.folder, *([target.store.tmp] if target.store else [])]
    return {
        "descriptors": len([*(process / "fd").iterdir()]),
        "threads": len([*(process / "task").iterdir()]),
        "tasks": tasks(target.metrics),
        "children": len(children.split()),
        "temporary files": sum(len(made) + len(files) for folder in folders for _, made, files in os.walk(folder)),
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
                for number in range(min(8, count - start))
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


@dataclass(frozen=True, slots=True)
class Size:
    """How much a life has to do.

    Attributes:
        calls: of every kind; a multiple of 1,000 is made.
        failed: pulls that the registry denies; none on a backend without one.
        cancelled: pulls that are cancelled while they wait for the registry; the same.
    """

    calls: int
    failed: int
    cancelled: int

    def part(self, number: int, parts: int) -> Size:
        """One of so many parts, which together are the whole."""

        def share(whole: int) -> int:
            return whole * (number + 1) // parts - whole * number // parts

        return Size(1000 * share(self.calls // 1000), share(self.failed), share(self.cancelled))

    def warm(self) -> Size:
        """What a server does before it is looked at: a tenth of everything, and of each kind a little at least."""
        return Size(max(1000, self.calls // 10), max(8, self.failed // 10), max(8, self.cancelled // 10))

    def on(self, backend: str) -> str:
        """As a text, for one backend."""
        pulls = "" if backend == "memory" else f", {self.failed:,} failed and {self.cancelled:,} cancelled pulls"
        return f"{self.calls:,} calls{pulls}"


FULL = Size(300_000, 2_000, 1_000)


@dataclass(frozen=True, slots=True)
class Life:
    """What a server had.

    Attributes:
        before: at rest, after a tenth of everything.
        after: at rest, at the end.
        memory: bytes in use, at the beginning and after each part.
    """

    before: dict[str, int]
    after: dict[str, int]
    memory: list[int]

    def __str__(self) -> str:
        had = ", ".join(f"{name} {self.before[name]} → {self.after[name]}" for name in self.before)
        first, middle, last = self.memory[0], self.memory[len(self.memory) // 2], self.memory[-1]
        return (
            f"{had}, memory {(middle - first) / MIB:+.1f} MiB at half of it, {(last - first) / MIB:+.1f} MiB at the end"
        )

    def judge(self) -> None:
        """Nothing has grown but what a pool may have: a few threads, and memory within what an allocator keeps."""
        for name in ("descriptors", "tasks", "children", "temporary files"):
            assert self.after[name] <= self.before[name] + 2, f"{name}: {self}"
        assert self.after["threads"] <= 60, str(self)
        assert self.memory[-1] - self.memory[0] < 16 * MIB, str(self)


async def lived(backend: str, size: Size, parts: int = 1, say: Callable[[str], None] = lambda _: None) -> Life:
    """Run a server, warm it up with a tenth of everything, then do everything.

    Args:
        backend: of the server.
        size: how much it has to do.
        parts: how many equal ones that is done in, each of them calls, failed pulls and cancelled pulls.
        say: takes a line after each part.
    """
    async with opened(backend) as target:
        await _live(target, size.warm())
        before, memory = await at_rest(target), [target.memory()]
        say(f"warm: {before}, {memory[0] / MIB:.1f} MiB")
        begun = time.monotonic()
        for number in range(parts):
            await _live(target, size.part(number, parts))
            memory.append(target.memory())
            say(f"{number + 1} of {parts} parts in {time.monotonic() - begun:.0f} s: {memory[-1] / MIB:.1f} MiB")
        return Life(before, await quiet(target, before), memory)


async def _live(target: Target, size: Size) -> None:
    await calls(target, size.calls)
    if target.backend != "memory":
        await failed_pulls(target, size.failed)
        await cancelled_pulls(target, size.cancelled)


def main() -> int:
    """Parse arguments, live, print."""
    parser = argparse.ArgumentParser(prog="life", description="Lets a server of criimage live long.")
    parser.add_argument("--backend", choices=list(BACKENDS), default="memory")
    parser.add_argument("--calls", type=int, default=FULL.calls)
    parser.add_argument("--failed", type=int, default=FULL.failed)
    parser.add_argument("--cancelled", type=int, default=FULL.cancelled)
    chosen = parser.parse_args()
    size = Size(chosen.calls, chosen.failed, chosen.cancelled)
    life = asyncio.run(lived(chosen.backend, size, 20, partial(print, flush=True)))
    print(f"{chosen.backend}: {size.on(chosen.backend)}: {life}")  # noqa: T201 - a program's output
    try:
        life.judge()
    except AssertionError as fault:
        print(f"GREW: {fault}")  # noqa: T201 - the same
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
