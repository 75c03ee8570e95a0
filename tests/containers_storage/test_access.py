"""Copies into a store pass together, deletions one at a time, and neither holds the other up for long (cri-o T10)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from criimage_containers_storage.store.access import StoreAccess

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_copies_together_deletions_alone() -> None:
    """Copies pass together; a deletion waits for them, and new copies for a deletion that runs (T10)."""
    access = StoreAccess(5)
    seen: list[str] = []

    ends = {name: asyncio.Event() for name in "abd"}

    async def copy(name: str, end: asyncio.Event | None = None) -> None:
        async with access.shared(lambda: None):
            seen.append(f"+{name}")
            if end is not None:
                await end.wait()
            seen.append(f"-{name}")

    async def delete() -> None:
        async with access.exclusive():
            seen.append("+d")
            await ends["d"].wait()
            seen.append("-d")

    async def settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(copy("a", ends["a"]))
        group.create_task(copy("b", ends["b"]))
        await settle()
        group.create_task(delete())
        for name in "ab":
            await settle()
            ends[name].set()
        await settle()
        group.create_task(copy("c"))
        await settle()
        ends["d"].set()
    assert seen == ["+a", "+b", "-a", "-b", "+d", "-d", "+c", "-c"]


async def test_a_copy_says_that_it_waits_and_is_counted_out_at_its_end() -> None:
    """Told once for each deletion that it waits for; what has ended, well or not, holds up no deletion (T10)."""
    access, said = StoreAccess(3600), 0

    def waits() -> None:
        nonlocal said
        said += 1

    async with access.exclusive():
        copy = asyncio.create_task(enter_shared(access, waits))
        await asyncio.sleep(0)
        assert said == 1
    await copy
    with pytest.raises(RuntimeError):
        async with access.shared(waits):
            raise RuntimeError
    deletion = asyncio.create_task(enter(access))
    for _ in range(10):
        await asyncio.sleep(0)
    assert deletion.done()
    assert said == 1


async def enter_shared(access: StoreAccess, waits: Callable[[], None]) -> None:
    """Copies nothing."""
    async with access.shared(waits):
        pass


async def test_a_deletion_does_not_wait_for_ever() -> None:
    """A copy that hangs keeps disk space from being freed for a moment only (T10, T15)."""
    access = StoreAccess(0.05)
    async with access.shared(lambda: None), asyncio.timeout(30), access.exclusive():
        pass
    access = StoreAccess(0.2)
    async with access.shared(lambda: None):
        # One after the other, each with the first one's patience, they would take forty seconds.
        async with asyncio.timeout(20):
            await asyncio.gather(*(enter(access) for _ in range(200)))
    # Neither a cancelled deletion nor a cancelled copy leaves the store shut.
    async with access.shared(lambda: None):
        task = asyncio.create_task(enter(access))
        await asyncio.sleep(0)
        task.cancel()
    async with asyncio.timeout(30), access.exclusive():
        pass
    async with asyncio.timeout(30), access.shared(lambda: None):
        pass


async def enter(access: StoreAccess) -> None:
    """Deletes nothing."""
    async with access.exclusive():
        pass
