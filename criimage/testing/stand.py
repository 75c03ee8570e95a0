"""What the conformance suite needs of a backend's author: a registry, and the backend on an empty store.

suite -> Stand -> the backend under test
               -> ConformanceRegistry, where its images come from
"""

from __future__ import annotations

import enum
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from criimage.backend import Image, ImageDetails, PullContext, PullProgress
from criimage.reference import Lookup, Name, Pattern

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from criimage.backend import Backend
    from criimage.credentials import Credentials
    from criimage.reference import ImageID, Reference

__all__ = ["Capability", "ConformanceRegistry", "OpenStand", "Published", "Stand", "Unending"]


class Capability(enum.Flag):
    """What a backend, or the registry it is tried on, need not have; a test that needs it is skipped without.

    All but the last three is expected unless a suite's class says otherwise: holding and naming an image takes a tool
    that only the backend's author knows, and the order in which a text is read is that of the runtime beside it.
    """

    PRIVATE = enum.auto()
    """The registry keeps images for one user."""
    WITHDRAW = enum.auto()
    """The registry can lose an image again."""
    STALL = enum.auto()
    """The registry can let a pull stand still."""
    UNREACHABLE = enum.auto()
    """Registries are on a network, where one can be out of reach."""
    PERSISTENT = enum.auto()
    """The store is there when the backend is opened again."""
    CORRUPT = enum.auto()
    """The registry can serve a layer that is not what its digest promises."""
    PROVES_DIGESTS = enum.auto()
    """The registry is asked about a digest that is stored already: such a pull proves that its caller may have it."""
    STOPS_PULLS = enum.auto()
    """A cancelled pull ends its download, in the middle of a layer too, and whoever else does the work."""
    IN_USE = enum.auto()
    """The suite's class holds images as a container does: it has a fixture `hold`."""
    NAMING = enum.auto()
    """The suite's class names images as another tool would: it has a fixture `give_name`."""
    NAME_FIRST = enum.auto()
    """A text that can be both is read as a name before it is read as the beginning of an ID, as docker does; without
    this the other way round, as CRI-O does."""

    EXPECTED = PRIVATE | WITHDRAW | STALL | UNREACHABLE | PERSISTENT | CORRUPT | PROVES_DIGESTS | STOPS_PULLS


@dataclass(frozen=True, slots=True)
class Published:
    """An image that can be pulled.

    Attributes:
        references: one for each name it was put under.
        id: what its ID will be.
        digest: of its manifest.
    """

    references: tuple[Reference, ...]
    id: ImageID
    digest: str

    @property
    def reference(self) -> Reference:
        """The first of its references."""
        return self.references[0]


@dataclass(frozen=True, slots=True)
class Unending:
    """An image whose layer begins and does not end.

    Attributes:
        reference: its name.
        is_read: whether the registry sends the layer to somebody now.
    """

    reference: Reference
    is_read: Callable[[], bool]


class ConformanceRegistry(Protocol):
    """Where images come from. The suite says what it wants, the author knows how to make it."""

    @property
    def owner(self) -> Credentials:
        """Who may pull private images."""
        ...

    def image_id(self, seed: str) -> ImageID:
        """Return the ID that an image without a user will have; other seeds give other IDs. Cheap: asked often."""
        ...

    async def put(self, seed: str, *names: str, user: str = "", private: bool = False) -> Published:
        """Make an image pullable.

        Args:
            seed: equal seeds and users give equal images, others differ.
            names: `repository:tag` each, in the registry; one that another image has is taken from it.
            user: of its config: a number or a name.
            private: only for `owner`.
        """
        ...

    async def withdraw(self, published: Published) -> None:
        """Make an image unknown to the registry."""
        ...

    def stalled(self) -> AbstractAsyncContextManager[Reference]:
        """Yield a reference whose pull begins and does not end while the block runs."""
        ...

    def corrupted(self) -> AbstractAsyncContextManager[Reference]:
        """Yield a reference whose layer is not what its digest promises while the block runs."""
        ...

    def unending(self) -> AbstractAsyncContextManager[Unending]:
        """Yield an image whose layer begins and does not end while the block runs."""
        ...


@dataclass(slots=True)
class OpenStand:
    """The backend under test, open, with calls as short as tests want them.

    Attributes:
        backend: all of it.
        reports: every report of every pull.
    """

    backend: Backend
    reports: list[PullProgress] = field(default_factory=list)

    async def pull(self, reference: Reference, credentials: Credentials | None = None) -> Image:
        """Pull one reference."""
        return await self.backend.pull(reference, credentials, PullContext(), self.reports.append)

    async def images(self, pattern: str = "") -> tuple[Image, ...]:
        """List as a client asks for it."""
        return await self.backend.images(Pattern.parse(pattern) if pattern else None)

    async def status(self, text: object, *, verbose: bool = False) -> ImageDetails | None:
        """Look an image up as a client writes it."""
        return await self.backend.status(Lookup.parse(str(text)), verbose=verbose)

    async def remove(self, text: object) -> None:
        """Remove as a client writes it."""
        await self.backend.remove(Lookup.parse(str(text)))

    async def resolve(self, text: str) -> tuple[Reference, ...]:
        """Resolve as a client writes it."""
        return await self.backend.resolve(Name.parse(text))

    async def clear(self) -> None:
        """Remove every image."""
        for image in await self.backend.images():
            await self.remove(image.id)


@dataclass(frozen=True, slots=True)
class Stand:
    """A backend and its surroundings, for one test.

    Attributes:
        open_backend: opens the backend under test, in one test always on the same store, empty at first.
        registry: where images come from.
        hold: holds an image as a container does, by its ID, while the block runs.
        give_name: gives an image a name without a registry and a tag, as another tool would.
        leftovers: tells, once every image is removed and the backend is closed, what is left of them.
    """

    open_backend: Callable[[], AbstractAsyncContextManager[Backend]]
    registry: ConformanceRegistry
    hold: Callable[[ImageID], AbstractAsyncContextManager[None]]
    leftovers: Callable[[], Awaitable[Sequence[str]]]
    give_name: Callable[[ImageID, str], Awaitable[None]]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[OpenStand]:
        """Open the backend; when the block ends well, remove all images and see that nothing is left (B41)."""
        async with self.open_backend() as backend:
            stand = OpenStand(backend)
            yield stand
            await stand.clear()
            remaining = await backend.images()
        found = [*(str(image.id) for image in remaining), *await self.leftovers()]
        if found:
            raise AssertionError(f"left behind: {found}")

    @asynccontextmanager
    async def opened_again(self) -> AsyncIterator[OpenStand]:
        """Open the backend and leave all images where they are."""
        async with self.open_backend() as backend:
            yield OpenStand(backend)
