"""The suite finds backends that break the contract: each fault here is one that a real backend could have."""
# ruff: noqa: D102 - a class says what is wrong with it

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from contract.test_memory import MemoryRegistry, StallingBackend, add_name
from criimage.backend import ImageDetails, PullProgress
from criimage.errors import ImageInUse, RemoteImageMissing
from criimage.reference import Lookup
from criimage.testing.conformance import BackendConformance, Capability
from criimage.testing.stand import Stand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from criimage.backend import Image, ProgressReporter, PullContext, Usage
    from criimage.credentials import Credentials
    from criimage.reference import ImageID, Name, Pattern, Reference
    from criimage.testing.memory import MemoryBackend


class NewList(StallingBackend):
    """B5: makes a new tuple each time."""

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        images = await super().images(pattern)
        return (*images[:1], *images[1:])


class StaleList(StallingBackend):
    """B7: never looks again."""

    _kept: tuple[Image, ...] = ()

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        self._kept = self._kept or await super().images()
        return self._kept


class OtherStatus(StallingBackend):
    """B10, B11: a status with another size than the list."""

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        return found and replace(found, image=replace(found.image, size=found.image.size + 1))


class FirstMatch(StallingBackend):
    """B13: an ambiguous prefix finds some image."""

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        for image in await self.images():
            if lookup.id_prefix and image.id.hex.startswith(lookup.id_prefix):
                lookup = Lookup(image.id.hex, id=image.id)
        return await super().status(lookup, verbose=verbose)


class NameFirst(StallingBackend):
    """B18: reads a text as a name before it is read as the beginning of an ID, which nobody has declared."""

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        by_name = replace(lookup, id_prefix=None) if lookup.name is not None else lookup
        return await super().status(by_name, verbose=verbose) or await super().status(lookup, verbose=verbose)


class Talkative(StallingBackend):
    """B15: tells its info to who did not ask."""

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        return await super().status(lookup, verbose=True)


class Doubtful(StallingBackend):
    """B3, B4: names every candidate twice."""

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        return (await super().resolve(name)) * 2


class Trusting(StallingBackend):
    """B25, B26: does not ask where it has the image."""

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        stored = await self.status(Lookup.parse(str(reference)))
        return stored.image if stored else await super().pull(reference, credentials, context, report)


class Early(StallingBackend):
    """B28: stores the image before it is there."""

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        self._images = (*await self.images(), *(await self.images())[:1])
        return await super().pull(reference, credentials, context, report)


class Deaf(StallingBackend):
    """B28: takes a cancel for a failure."""

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        try:
            return await super().pull(reference, credentials, context, report)
        except asyncio.CancelledError:
            raise RemoteImageMissing("cancelled") from None


class Backwards(StallingBackend):
    """B30: its bytes become fewer."""

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        report(PullProgress(bytes_done=10**9))
        return await super().pull(reference, credentials, context, report)


class Strict(StallingBackend):
    """B1, B33: nothing to remove is a failure."""

    async def remove(self, lookup: Lookup) -> None:
        if await self.status(lookup) is None:
            raise ImageInUse("there is no such image")
        await super().remove(lookup)


class Untagging(StallingBackend):
    """B32: removes the name alone."""

    async def remove(self, lookup: Lookup) -> None:
        found = self._find(lookup)
        if found and lookup.name and len(found.tags) > 1:
            found.tags.discard(lookup.name.qualified("example.com"))
            self._images = None
            return
        await super().remove(lookup)


class Careless(StallingBackend):
    """B35: refuses, but a name is gone."""

    async def remove(self, lookup: Lookup) -> None:
        found = self._find(lookup)
        if found and found.remote.id in self.in_use:
            found.tags.clear()
            self._images = None
        await super().remove(lookup)


class Nowhere(StallingBackend):
    """B36: images lie in a folder that is not there."""

    async def usage(self) -> Usage:
        found = await super().usage()
        return replace(found, images=(replace(found.images[0], mountpoint="/no/such/folder"),))


FAULTS = [
    (NewList, "test_the_list_is_the_same_while_nothing_changes"),
    (StaleList, "test_the_list_is_the_same_while_nothing_changes"),
    (OtherStatus, "test_every_lookup_finds_the_same"),
    (FirstMatch, "test_an_ambiguous_prefix_finds_nothing"),
    (NameFirst, "test_a_text_that_is_a_name_and_the_beginning_of_an_id"),
    (Talkative, "test_info_is_for_who_asks"),
    (Doubtful, "test_a_full_name_means_itself"),
    (Trusting, "test_the_registry_is_always_asked"),
    (Trusting, "test_credentials_are_always_checked"),
    (Early, "test_a_cancelled_pull_leaves_nothing"),
    (Deaf, "test_a_cancelled_pull_leaves_nothing"),
    (Backwards, "test_progress_only_grows"),
    (Strict, "test_an_untouched_store_is_empty"),
    (Untagging, "test_any_lookup_removes_the_whole_image"),
    (Careless, "test_an_image_in_use_loses_nothing"),
    (Nowhere, "test_usage_is_of_a_place_that_exists"),
]


class _Everything(BackendConformance):
    capabilities = (~BackendConformance.capabilities | BackendConformance.capabilities) & ~Capability.NAME_FIRST


def _stand(backend: MemoryBackend, registry: MemoryRegistry, left: Sequence[str] = ()) -> Stand:
    @asynccontextmanager
    async def opened() -> AsyncIterator[MemoryBackend]:
        yield backend

    @asynccontextmanager
    async def held(image: ImageID) -> AsyncIterator[None]:
        backend.in_use.add(image)
        yield
        backend.in_use.remove(image)

    async def leftovers() -> Sequence[str]:
        return left

    async def named(image: ImageID, name: str) -> None:
        add_name(backend, image, name)

    return Stand(opened, registry, held, leftovers, named)


@pytest.mark.parametrize(("faulty", "test"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
async def test_a_fault_is_found(faulty: type[MemoryBackend], test: str) -> None:
    """A backend with this one fault fails the test that is about it."""
    registry = MemoryRegistry()
    method = getattr(_Everything(), test)
    arguments = {"form": "first tag"} if "form" in inspect.signature(method).parameters else {}

    with pytest.raises((AssertionError, ImageInUse, pytest.fail.Exception)):
        await method(_stand(faulty(registry.registry), registry), **arguments)


@pytest.mark.parametrize("test", sorted({test for _, test in FAULTS}))
async def test_without_a_fault_the_same_tests_pass(test: str) -> None:
    """So it is the fault that is found, not the way in which it is looked for."""
    registry = MemoryRegistry()
    method = getattr(_Everything(), test)
    arguments = {"form": "first tag"} if "form" in inspect.signature(method).parameters else {}

    await method(_stand(StallingBackend(registry.registry), registry), **arguments)


async def test_what_is_left_behind_is_found() -> None:
    """B41: after every test, whatever it was about."""
    registry = MemoryRegistry()
    stand = _stand(StallingBackend(registry.registry), registry, ["a file"])

    with pytest.raises(AssertionError, match=r"left behind: .*a file"):
        await _Everything().test_a_store_that_works_has_no_problems(stand)
