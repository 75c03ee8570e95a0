"""Behaviours of remove, and of all calls at once."""
# ruff: noqa: S101 - a test suite

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from criimage.errors import ImageInUse
from criimage.testing.conformance.checks import PATIENCE, check_image, refused, unchanged
from criimage.testing.conformance.suite import Suite
from criimage.testing.stand import Capability

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from criimage.testing.stand import Stand

__all__ = ["Removing"]

MANY = 8


class Removing(Suite):
    """What remove promises, and all calls together."""

    @pytest.mark.parametrize("form", ["id", "prefixed id", "short id", "first tag", "second tag", "digest"])
    async def test_any_lookup_removes_the_whole_image(self, stand: Stand, form: str) -> None:
        """B32: with all its names; the others stay complete; pulled again, it is back."""
        published = await stand.registry.put("one", "team/one:1", "team/one:2")
        other = await stand.registry.put("two", "team/two:1")
        digits, (first, second) = published.id.hex, published.references
        text = {
            "id": digits,
            "prefixed id": f"sha256:{digits}",
            "short id": digits[:20],
            "first tag": first,
            "second tag": second,
            "digest": first.with_digest(published.digest),
        }[form]
        async with stand.opened() as store:
            for reference in (*published.references, other.reference):
                await store.pull(reference)
            await store.remove(text)

            assert [image.id for image in await store.images()] == [other.id]
            assert await store.status(other.reference, verbose=True) is not None
            for gone in (digits, first, second, first.with_digest(published.digest)):
                assert await store.status(gone) is None
            await store.remove(text)  # B33
            assert (await store.pull(first)).tags == (first,)

    async def test_removals_at_once_all_succeed(self, stand: Stand) -> None:
        """B34: of one image, by all of its names."""
        published = await stand.registry.put("one", "team/one:1", "team/one:2")
        other = await stand.registry.put("two", "team/two:1")
        async with stand.opened() as store:
            for reference in (*published.references, other.reference):
                await store.pull(reference)
            texts = itertools.islice(itertools.cycle([published.id, *published.references]), MANY)
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(store.remove(text) for text in texts))

            assert [image.id for image in await store.images()] == [other.id]

    async def test_an_image_in_use_loses_nothing(self, stand: Stand) -> None:
        """B35: ImageInUse for any lookup, and not even a name is gone; afterwards it can be removed."""
        self.need(Capability.IN_USE)
        published = await stand.registry.put("one", "team/one:1", "team/one:2")
        async with stand.opened() as store:
            for reference in published.references:
                await store.pull(reference)
            async with stand.hold(published.id), unchanged(store):
                for text in (published.id, published.id.hex[:20], *published.references):
                    await refused(store.remove(text), ImageInUse)
            await store.remove(published.id)
            assert await store.images() == ()

    async def test_every_call_goes_with_every_other(self, stand: Stand) -> None:
        """B37: pulls, removals and questions at once end well, and what is left is consistent."""
        published = [await stand.registry.put(f"mixed {n}", f"team/mixed{n}:1") for n in range(3)]
        async with stand.opened() as store:
            calls: list[Awaitable[object]] = []
            for one in published * 2:
                calls += [store.pull(one.reference), store.images(), store.status(one.reference), store.remove(one.id)]
                calls += [store.backend.usage(), store.backend.check(), store.images(str(one.id))]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*calls)

            for image in await store.images():
                check_image(image)
                details = await store.status(image.id)
                assert details is not None
                assert details.image == image
