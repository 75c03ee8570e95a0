"""What a planted fault is, and the ways in which a backend in memory is made a faulty one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage.testing.remote import RemoteRegistry
from parts.serving import WatchedBackend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from criimage.backend import Image, ImageDetails, ProgressReporter, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Lookup, Pattern, Reference

__all__ = [
    "Details",
    "Fault",
    "Lists",
    "Lookups",
    "Pulls",
    "Removals",
    "Sound",
    "Unseen",
    "backend",
    "patched",
    "planted",
]


class Sound(WatchedBackend):
    """The backend in memory without a fault, pulling from real registries on 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__()
        self._remote = RemoteRegistry("127.0.0.1:0")


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why a suite cannot see a fault; one sentence."""

    why: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: of its own.
        sentence: what is wrong.
        wire: number of the behaviour that catches it in `criimage conformance`, or why none can.
        suite: test that catches it in the suite for backends, the first value of its parameters in brackets, or why
            none can.
        backend: has the fault, or is sound.
        patch: puts the fault into the server, or into what a backend is made of.
    """

    name: str
    sentence: str
    wire: str | Unseen
    suite: str | Unseen
    backend: type[Sound] = Sound
    patch: Callable[[pytest.MonkeyPatch], None] | None = None


planted: list[Fault] = []
"""Every fault, in the order of its module."""

_SERVER = Unseen("It is in the server, which the suite for backends does without.")


def backend(wire: str | Unseen, sentence: str, suite: str | Unseen) -> Callable[[type[Sound]], type[Sound]]:
    """Plant a faulty backend."""

    def add(faulty: type[Sound]) -> type[Sound]:
        planted.append(Fault(faulty.__name__, sentence, wire, suite, faulty))
        return faulty

    return add


def patched(
    wire: str | Unseen, sentence: str, suite: str | Unseen = _SERVER
) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    """Plant a patch, of the server unless `suite` says where else."""

    def add(patch: Callable[[pytest.MonkeyPatch], None]) -> None:
        planted.append(Fault(patch.__name__.strip("_"), sentence, wire, suite, patch=patch))

    return add


class Lists(Sound):
    """Lists something else."""

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        return self.instead(await super().images(pattern), pattern)

    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        raise NotImplementedError


class Lookups(Sound):
    """Does not find what `misses` tells."""

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        return None if self.misses(lookup) else await super().status(lookup, verbose=verbose)

    def misses(self, lookup: Lookup) -> bool:
        raise NotImplementedError


class Details(Sound):
    """Tells something else of an image that is there."""

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        return found and self.instead(found, lookup)

    def instead(self, found: ImageDetails, lookup: Lookup) -> ImageDetails:
        raise NotImplementedError


class Pulls(Sound):
    """Pulls in another way."""

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        async def sound(given: Credentials | None = credentials) -> Image:
            return await super(Pulls, self).pull(reference, given, context, report)

        return await self.instead(reference, credentials, sound)

    async def instead(
        self, reference: Reference, credentials: Credentials | None, pull: Callable[..., Awaitable[Image]]
    ) -> Image:
        raise NotImplementedError


class Removals(Sound):
    """Removes in another way."""

    async def remove(self, lookup: Lookup) -> None:
        await self.instead(lookup)

    async def instead(self, lookup: Lookup) -> None:
        raise NotImplementedError

    async def sound(self, lookup: Lookup) -> None:
        """Remove as it should be."""
        await super().remove(lookup)
