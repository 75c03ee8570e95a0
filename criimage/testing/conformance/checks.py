"""What several behaviours are checked with."""
# ruff: noqa: S101 - a test suite

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from criimage.errors import CriimageError, ImageInUse, PullError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from criimage.backend import Image
    from criimage.reference import ImageID
    from criimage.testing.stand import OpenStand

__all__ = ["PATIENCE", "cancelled", "check_image", "colliding_seeds", "refused", "some_time", "unchanged", "until"]

PATIENCE = 60.0
"""Seconds after which a call counts as hanging; nothing here takes so long."""


def check_image(image: Image) -> None:
    """B6: whatever an image is, this holds."""
    assert image.size >= 1
    assert list(image.tags) == sorted(set(image.tags), key=str)
    assert len(set(image.digests)) == len(image.digests)
    assert all(tag.tag and not tag.digest for tag in image.tags)
    assert all(digest.digest and not digest.tag for digest in image.digests)


@asynccontextmanager
async def unchanged(store: OpenStand) -> AsyncIterator[None]:
    """What the block does leaves the list as it was."""
    before = await store.images()
    yield
    assert await store.images() == before


async def refused(call: Awaitable[object], kind: type[CriimageError]) -> CriimageError:
    """B29: the call fails with this kind, in one line that tells no secret."""
    with pytest.raises(CriimageError) as caught:
        async with asyncio.timeout(PATIENCE):
            await call
    assert isinstance(caught.value, kind), repr(caught.value)
    assert isinstance(caught.value, PullError | ImageInUse)
    assert caught.value.text
    assert "\n" not in caught.value.text
    assert "c4n4ry" not in caught.value.text
    return caught.value


async def some_time(task: asyncio.Task[Image]) -> None:
    """Let a pull get going; how far it comes does not matter to any test."""
    await asyncio.wait([task], timeout=0.3)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it may be anybody's
            await asyncio.sleep(0.02)


async def cancelled(task: asyncio.Task[Image]) -> None:
    """B28: a cancel ends the call with CancelledError and nothing else."""
    task.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([task])
    assert task.cancelled()


def colliding_seeds(image_id: Callable[[str], ImageID]) -> tuple[str, str, int]:
    """Two seeds whose images' IDs begin alike, and how many digits they share; at least 3 of them."""
    seen: dict[str, str] = {}
    for number in itertools.count():
        seed = f"twin {number}"
        digits = image_id(seed).hex
        other = seen.setdefault(digits[:3], seed)
        if other != seed:
            pairs = zip(digits, image_id(other).hex, strict=True)
            return other, seed, sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    raise AssertionError  # the digits are finite
