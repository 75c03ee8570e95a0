"""Behaviours of the calls that look only: check, resolve, images, status, usage."""
# ruff: noqa: S101 - a test suite

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from criimage.backend import Backend, ImageDetails
from criimage.errors import InvalidRequest
from criimage.files import is_folder
from criimage.reference import Lookup, Reference
from criimage.testing.conformance.checks import PATIENCE, cancelled, check_image, colliding_seeds, some_time
from criimage.testing.conformance.suite import Suite
from criimage.testing.stand import Capability

if TYPE_CHECKING:
    from criimage.testing.stand import Stand

__all__ = ["Reading"]

_SINCE = 10**18
"""Nanoseconds from 1970 to 2001: a time in seconds or milliseconds is less."""


class Reading(Suite):
    """What the calls that look only promise."""

    async def test_an_untouched_store_is_empty(self, stand: Stand) -> None:
        """B1: it lists nothing, finds nothing, and removing from it succeeds."""
        async with stand.opened() as store:
            assert isinstance(store.backend, Backend)
            assert await store.images() == ()
            assert await store.status("example.com/none:1") is None
            assert await store.status("0" * 64) is None
            await store.remove("example.com/none:1")
            await store.remove("0" * 64)

    async def test_a_store_that_works_has_no_problems(self, stand: Stand) -> None:
        """B2: check answers nothing where the other behaviours hold."""
        async with stand.opened() as store:
            assert await store.backend.check() == ()

    async def test_a_full_name_means_itself(self, stand: Stand) -> None:
        """B3: and nothing else, by tag and by digest."""
        async with stand.opened() as store:
            for name in ("example.com/a/b:1", f"localhost:5000/a@sha256:{'ab' * 32}", "docker.io/library/busybox:1"):
                assert await store.resolve(name) == (Reference.parse(name),)

    async def test_candidates_are_distinct(self, stand: Stand) -> None:
        """B4: a short name means at least one reference or is refused; none comes twice."""
        async with stand.opened() as store:
            try:
                found = await store.resolve("busybox:1")
            except InvalidRequest:
                return
            assert found
            assert len(set(found)) == len(found)
            assert {(candidate.path.rpartition("/")[2], candidate.tag) for candidate in found} == {("busybox", "1")}

    async def test_the_list_is_the_same_while_nothing_changes(self, stand: Stand) -> None:
        """B5, B7: the very same tuple, whatever else is asked meanwhile; a change makes another."""
        first = await stand.registry.put("one", "team/one:1")
        second = await stand.registry.put("two", "team/two:1")
        async with stand.opened() as store:
            await store.pull(first.reference)
            before = await store.images()
            await store.status(first.id)
            await store.resolve(str(first.reference))
            await store.backend.usage()
            await store.backend.check()
            await store.images(f"{first.reference.domain}/team/nothing:1")

            assert await store.images() is before
            await store.pull(second.reference)
            both = await store.images()
            assert len(both) == 2
            assert await store.images() is both

    async def test_every_image_is_listed_once(self, stand: Stand) -> None:
        """B6: whatever its names, with valid fields, and no name twice."""
        published = await stand.registry.put("one", "team/one:1", "team/one:2", "other/one:1")
        await stand.registry.put("two", "team/two:1")
        async with stand.opened() as store:
            for reference in published.references:
                await store.pull(reference)

            assert len(await store.images()) == 1
            (image,) = await store.images()
            assert set(image.tags) == set(published.references)
            assert {digest.repository for digest in image.digests} >= {tag.repository for tag in image.tags}
            check_image(image)

    async def test_a_pattern_lists_what_it_matches(self, stand: Stand) -> None:
        """B8: by any lookup, with all names; what matches nothing, or is a glob nobody knows, is no error."""
        published = await stand.registry.put("one", "team/one:1", "team/one:2")
        other = await stand.registry.put("two", "team/two:1")
        async with stand.opened() as store:
            for reference in (*published.references, other.reference):
                await store.pull(reference)
            image = next(image for image in await store.images() if image.id == published.id)

            for text in (*published.references, *image.digests, image.id, image.id.hex, image.id.hex[:20]):
                assert await store.images(str(text)) == (image,), text
            for text in (f"{other.reference.domain}/team/none:1", "0" * 64, "CAFE"):
                assert await store.images(text) == ()
            assert set(await store.images("no-such-*")) == set()

    async def test_listing_does_not_wait_for_a_pull(self, stand: Stand) -> None:
        """B9: lists, status, usage and check answer while a pull stands still."""
        self.need(Capability.STALL)
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            await store.pull(published.reference)
            async with stand.registry.stalled() as reference:
                pull = asyncio.create_task(store.pull(reference))
                await some_time(pull)
                async with asyncio.timeout(PATIENCE):
                    assert len(await store.images()) == 1
                    assert await store.status(published.id) is not None
                    await store.backend.usage()
                    await store.backend.check()
                assert not pull.done()
                await cancelled(pull)

    async def test_every_lookup_finds_the_same(self, stand: Stand) -> None:
        """B11, B12: ID in both spellings, its beginnings, tags and digests; and it is what the list has."""
        published = await stand.registry.put("one", "team/one:1", "team/one:2")
        async with stand.opened() as store:
            for reference in published.references:
                await store.pull(reference)
            (image,) = await store.images()
            digits = image.id.hex

            texts = [digits, f"sha256:{digits}", digits[:3], digits[:12], f"sha256:{digits[:12]}", digits[:63]]
            found = [await store.status(text) for text in [*texts, *image.tags, *image.digests]]

            assert (
                found == [ImageDetails(image, found[0].user, found[0].annotations)] * len(found) if found[0] else False
            )

    async def test_a_text_that_is_a_name_and_the_beginning_of_an_id(self, stand: Stand) -> None:
        """B18: read in the declared order; the image that is meant is found, and it alone is removed."""
        self.need(Capability.NAMING)
        published = [await stand.registry.put(seed, f"team/{seed}:1") for seed in ("one", "two")]
        async with stand.opened() as store:
            begins, named = [(await store.pull(one.reference)).id for one in published]
            text = begins.hex[:6]
            await stand.give_name(named, text)
            meant, other = (named, begins) if self.capabilities & Capability.NAME_FIRST else (begins, named)
            found = await store.status(text)
            assert found is not None
            assert found.image.id == meant
            await store.remove(text)
            assert [image.id for image in await store.images()] == [other]

    async def test_an_ambiguous_prefix_finds_nothing(self, stand: Stand) -> None:
        """B13: neither for a status nor for a removal; one digit more decides."""
        first, second, length = colliding_seeds(stand.registry.image_id)
        async with stand.opened() as store:
            for number, seed in enumerate((first, second)):
                await store.pull((await stand.registry.put(seed, f"team/twin{number}:1")).reference)
            one, two = stand.registry.image_id(first).hex, stand.registry.image_id(second).hex

            assert await store.status(one[:length]) is None
            assert await store.images(one[:length]) == ()
            await store.remove(one[:length])
            assert len(await store.images()) == 2
            for digits in (one, two):
                details = await store.status(digits[: length + 1])
                assert details is not None
                assert details.image.id.hex == digits

    async def test_what_is_no_lookup_of_an_image_finds_nothing(self, stand: Stand) -> None:
        """B14: another tag, another ID, upper-case hex, and one or two digits of an ID."""
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            await store.pull(published.reference)
            reference, digits = published.reference, published.id.hex
            absent = [f"{reference.repository}:other", f"{reference.repository}@sha256:{'0' * 64}", "0" * 64]

            for text in [*absent, "CAFE", digits.upper(), digits[:12] + "0" * 20, f"{reference.domain}/none:1"]:
                assert await store.status(text) is None, text
            assert (await store.backend.status(Lookup(digits[:3].upper()))) is None

    async def test_info_is_for_who_asks(self, stand: Stand) -> None:
        """B15: a verbose status says more, and nothing else otherwise; what begins with a brace is a JSON object."""
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            await store.pull(published.reference)
            terse, verbose = await store.status(published.id), await store.status(published.id, verbose=True)

            assert terse is not None
            assert verbose is not None
            assert dict(terse.info) == {}
            assert (verbose.image, verbose.user, verbose.annotations) == (terse.image, terse.user, terse.annotations)
            for value in verbose.info.values():
                assert not value.startswith("{") or isinstance(json.loads(value), dict)

    @pytest.mark.parametrize(
        ("user", "uid", "name"),
        [
            ("0", 0, ""),
            ("1002", 1002, ""),
            ("www-data", None, "www-data"),
            ("", None, ""),
            ("1003:1004", 1003, ""),
            ("www-data:1004", None, "www-data"),
        ],
    )
    async def test_the_user_is_told(self, stand: Stand, user: str, uid: int | None, name: str) -> None:
        """B16: a number or a name, 0 being a number; nothing where the image says nothing."""
        published = await stand.registry.put("one", "team/one:1", user=user)
        async with stand.opened() as store:
            await store.pull(published.reference)
            details = await store.status(published.reference)

            assert details is not None
            found = (details.user.uid, details.user.name) if details.user else (None, "")
            assert found == (uid, name)

    async def test_a_store_outlives_the_backend(self, stand: Stand) -> None:
        """B17: opened again, it lists equal images."""
        self.need(Capability.PERSISTENT)
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened_again() as store:
            await store.pull(published.reference)
            before = await store.images()
        async with stand.opened() as store:
            assert await store.images() == before

    async def test_usage_is_of_a_place_that_exists(self, stand: Stand) -> None:
        """B36: both lists are filled, and say where, how much and when, in nanoseconds; on an untouched store too."""
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            for _ in range(2):
                usage = await store.backend.usage()
                assert usage.images
                assert usage.containers
                for one in (*usage.images, *usage.containers):
                    assert Path(one.mountpoint).is_absolute()
                    assert await asyncio.to_thread(is_folder, Path(one.mountpoint))
                    assert one.used_bytes >= 0
                    assert one.inodes_used is None or one.inodes_used >= 0
                    assert _SINCE < one.timestamp <= time.time_ns()
                await store.pull(published.reference)
