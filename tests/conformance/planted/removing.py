"""Faults of removals and of disk usage."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from conformance.planted.fault import Fault, Lists, Removals, Sound, Unseen, backend, planted
from criimage.backend import Usage
from criimage.errors import RemoteImageMissing

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.backend import Image
    from criimage.reference import Lookup, Pattern

_ANY = "test_any_lookup_removes_the_whole_image"
_USAGE = "test_usage_is_of_a_place_that_exists"


@backend("R1", "a removed image stays in the list", f"{_ANY}[id]")
class StaysListed(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        if pattern is None:
            self.seen = {**getattr(self, "seen", {}), **{one.id: one for one in found}}
            return tuple(self.seen.values())
        return found


@backend("R3", "a removal by tag removes that tag only", f"{_ANY}[first tag]")
class Untags(Removals):
    async def instead(self, lookup: Lookup) -> None:
        found = self._find(lookup)
        if found is not None and lookup.id is None and lookup.name is not None and lookup.name.digest is None:
            found.tags = set(sorted(found.tags)[1:])
            self._images = None
            if found.tags:
                return
        await self.sound(lookup)


@backend("R4", "a removal by digest does nothing", f"{_ANY}[digest]")
class NoRemovalByDigest(Removals):
    async def instead(self, lookup: Lookup) -> None:
        if lookup.name is None or lookup.name.digest is None:
            await self.sound(lookup)


@backend("R5", "a removal by the beginning of an ID does nothing", f"{_ANY}[short id]")
class NoRemovalByPrefix(Removals):
    async def instead(self, lookup: Lookup) -> None:
        if lookup.id_prefix is None:
            await self.sound(lookup)


@backend("R6", "removing an absent ID is an error", "test_an_untouched_store_is_empty")
class AbsentRemoval(Removals):
    async def instead(self, lookup: Lookup) -> None:
        if lookup.id is not None and self._find(lookup) is None:
            raise RemoteImageMissing("no such image")
        await self.sound(lookup)


@backend(
    Unseen("Removals of one image are one in the server."),
    "of several removals at once only the first succeeds",
    "test_removals_at_once_all_succeed",
)
class FirstRemoval(Removals):
    async def instead(self, lookup: Lookup) -> None:
        there = self._find(lookup)
        await asyncio.sleep(0.01)
        if there is not None and self._find(lookup) is None:
            raise RemoteImageMissing("no such image")
        await self.sound(lookup)


@backend("R10", "a removal takes another image's names", f"{_ANY}[id]")
class TakesNames(Removals):
    async def instead(self, lookup: Lookup) -> None:
        await self.sound(lookup)
        for one in self._stored.values():
            one.tags.clear()
        self._images = None


@backend(
    Unseen("An image service alone has no container that could hold an image."),
    "removing an image in use fails, and a name is gone",
    "test_an_image_in_use_loses_nothing",
)
class Careless(Removals):
    async def instead(self, lookup: Lookup) -> None:
        found = self._find(lookup)
        if found and found.remote.id in self.in_use:
            found.tags.clear()
            self._images = None
        await self.sound(lookup)


def _usage(change: Callable[[Usage], Usage]) -> type[Sound]:
    class Other(Sound):
        async def usage(self) -> Usage:
            return change(await super().usage())

    return Other


def _in_seconds(one: Usage) -> Usage:
    return replace(one, images=(replace(one.images[0], timestamp=one.images[0].timestamp // 10**9),))


def _nowhere(one: Usage) -> Usage:
    return replace(one, images=(replace(one.images[0], mountpoint="/no/such/folder"),))


planted += [
    Fault("NoImageUsage", "there is no image file system", "U1", _USAGE, _usage(lambda one: Usage((), one.containers))),
    Fault("Seconds", "the time is in seconds", "U3", _USAGE, _usage(_in_seconds)),
    Fault(
        "NoContainerUsage", "there is no container file system", "U4", _USAGE, _usage(lambda one: Usage(one.images, ()))
    ),
    Fault(
        "Nowhere",
        "images lie in a folder that is not there",
        Unseen("The service may see other folders than who asks it."),
        _USAGE,
        _usage(_nowhere),
    ),
]
