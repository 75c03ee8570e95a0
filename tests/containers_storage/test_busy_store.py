"""Other tools work on the store: nobody waits for anybody, and everybody sees what is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from containers_storage.locks import asker, held, locked, locks
from containers_storage.opened import opened
from criimage.testing.oci import image, layer
from parts.registry import registry
from parts.store import store
from pulls.scenarios import zeros_layer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from containers_storage.opened import Opened

pytestmark = pytest.mark.engine

SMALL = image(layer({"a": b"a"}))
LARGE = image(zeros_layer(600 * 2**20))


async def test_answers_while_another_tool_unpacks(record_property: Callable[[str, object], None]) -> None:
    """Lists, statuses and figures come while layers.lock is held for a large layer, and see the rest (L5, L8, L9)."""
    with registry() as hub, store() as local:
        small, large = hub.push(SMALL, "small", "1"), hub.push(LARGE, "large", "1")
        async with opened(local) as under_test:
            kept = await under_test.pull(small)
            lock = local.root / "overlay-layers" / "layers.lock"
            with asker(lock) as other:
                pulling = asyncio.create_task(asyncio.to_thread(local.pull, large))
                slowest, answers = await answers_while_held(under_test, other, pulling)
                await pulling
            assert answers >= 20
            assert kept in await under_test.backend.images()
            assert len(await under_test.backend.images()) == 2
    record_property("slowest answer while a layer is unpacked, milliseconds", round(slowest * 1000, 2))
    record_property("answers meanwhile", answers)
    print(f"slowest of {answers} answers while a layer is unpacked: {slowest * 1000:.2f} ms")  # noqa: T201 - a figure


async def answers_while_held(
    under_test: Opened, other: subprocess.Popen[str], pulling: asyncio.Task[None]
) -> tuple[float, int]:
    """Asks and asks; counts the answers between two moments in which the lock was held."""
    slowest, answers = 0.0, 0
    while not pulling.done():
        if not await asyncio.to_thread(held, other):
            continue
        began = time.perf_counter()
        listed = (await under_test.backend.images())[0]
        assert await under_test.status(str(listed.id)) is not None
        took = time.perf_counter() - began
        await under_test.backend.usage()
        if await asyncio.to_thread(held, other):
            slowest, answers = max(slowest, took), answers + 1
    return slowest, answers


async def test_we_take_no_lock() -> None:
    """With every lock of the store held by another, reading neither waits nor asks for one (L5, L7, L8)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "small", "1")
        async with opened(local) as under_test:
            await under_test.pull(name)
            with contextlib.ExitStack() as stack:
                for kind in ("images", "layers", "containers"):
                    stack.enter_context(locked(local.root / f"overlay-{kind}" / f"{kind}.lock"))
                # Written again, so that it has to be read again.
                file = local.root / "overlay-images" / "images.json"
                await asyncio.to_thread(lambda: file.write_bytes(file.read_bytes()))
                assert [str(tag) for one in await under_test.backend.images() for tag in one.tags] == [name]
                assert await under_test.status(name, verbose=True) is not None
                assert (await under_test.backend.usage()).images[0].used_bytes > 0
                assert not locks(local, os.getpid())
