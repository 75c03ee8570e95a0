"""The in-memory backend keeps the contract (docs/contract.md)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from criimage.backend import User
from criimage.credentials import Credentials
from criimage.errors import ContentInvalid
from criimage.reference import DEFAULT_DOMAIN, Reference
from criimage.testing.conformance import BackendConformance, Capability
from criimage.testing.memory import MemoryBackend, MemorySettings, Registry, RemoteImage, plugin
from criimage.testing.scripted_stand import ScriptedStandRegistry, scripted_stand
from criimage.testing.stand import Published, Unending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from criimage.reference import ImageID

STALLED = RemoteImage("stalled")
CORRUPTED = RemoteImage("corrupted")
UNENDING = RemoteImage("unending")


class CountingRegistry(Registry):
    """Knows how many read the image that does not end."""

    readers = 0


class MemoryRegistry:
    """The registry of the backend in memory, as the suite asks for it."""

    owner = Credentials("owner", "right")

    def __init__(self) -> None:
        self.registry = CountingRegistry()

    def image_id(self, seed: str) -> ImageID:
        """Return what the backend makes of the content."""
        return RemoteImage(seed).id

    async def put(self, seed: str, *names: str, user: str = "", private: bool = False) -> Published:
        """Put it into the dict."""
        name = user.partition(":")[0]
        told = (User(uid=int(name)) if name.isdecimal() else User(name=name)) if name else None
        image = RemoteImage(seed, user=told, owner=self.owner if private else None)
        references = tuple(self.registry.put(f"example.com/{name}", image) for name in names)
        return Published(references, image.id, image.digest)

    async def withdraw(self, published: Published) -> None:
        """Take it out of the dict."""
        for reference in published.references:
            self.registry.withdraw(reference)

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[Reference]:
        """Its download waits for ever."""
        yield self.registry.put("example.com/team/stalled:1", STALLED)

    @asynccontextmanager
    async def corrupted(self) -> AsyncIterator[Reference]:
        """Its download is found to be something else."""
        yield self.registry.put("example.com/team/corrupted:1", CORRUPTED)

    @asynccontextmanager
    async def unending(self) -> AsyncIterator[Unending]:
        """Its download counts itself."""
        yield Unending(self.registry.put("example.com/team/unending:1", UNENDING), lambda: self.registry.readers > 0)


class StallingBackend(MemoryBackend):
    """Waits for ever for one image."""

    async def download(self, remote: RemoteImage) -> None:
        """Take a turn of the loop, or all of them, or find out that it is something else; count who reads for ever."""
        if remote == CORRUPTED:
            raise ContentInvalid("the digests differ")
        if remote == UNENDING and isinstance(self.registry, CountingRegistry):
            self.registry.readers += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.registry.readers -= 1
        await (asyncio.Event().wait() if remote == STALLED else asyncio.sleep(0))


def add_name(backend: MemoryBackend, image: ImageID, name: str) -> None:
    """Gives an image a name, as somebody else with the same store would."""
    backend._stored[image].tags.add(Reference.parse(name, DEFAULT_DOMAIN))
    backend._images = None


class InMemory(BackendConformance):
    """Nothing outlives the process."""

    capabilities = Capability.EXPECTED & ~Capability.PERSISTENT | Capability.IN_USE | Capability.NAMING

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        """The backend, which is its own store; to be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def open_backend(self, backend: MemoryBackend) -> Callable[[], AbstractAsyncContextManager[MemoryBackend]]:
        """Opening is nothing."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[MemoryBackend]:
            yield backend

        return opened

    @pytest.fixture
    def give_name(self, backend: MemoryBackend) -> Callable[[ImageID, str], Awaitable[None]]:
        """The backend has a table."""

        async def named(image: ImageID, name: str) -> None:
            add_name(backend, image, name)

        return named

    @pytest.fixture
    def hold(self, backend: MemoryBackend) -> Callable[[ImageID], AbstractAsyncContextManager[None]]:
        """The backend has a set of what is in use."""

        @asynccontextmanager
        async def held(image: ImageID) -> AsyncIterator[None]:
            backend.in_use.add(image)
            yield
            backend.in_use.remove(image)

        return held


class TestMemory(InMemory):
    """Its registry is a dict: there is no network."""

    capabilities = InMemory.capabilities & ~Capability.UNREACHABLE

    @pytest.fixture
    def registry(self) -> MemoryRegistry:
        """A registry of the test's own."""
        return MemoryRegistry()

    @pytest.fixture
    def backend(self, registry: MemoryRegistry) -> MemoryBackend:
        """One that stands still where the suite wants it."""
        return StallingBackend(registry.registry)


class TestMemoryWithARegistry(InMemory):
    """As `criimage serve` opens it with the setting `registry`."""

    @pytest.fixture
    def registry(self) -> Iterator[ScriptedStandRegistry]:
        """The registry that comes with the suite."""
        with scripted_stand() as registry:
            yield registry

    @pytest.fixture
    async def backend(self) -> AsyncIterator[MemoryBackend]:
        """Opened by its plugin."""
        async with plugin.open(MemorySettings(registry="127.0.0.1:0")) as backend:
            assert isinstance(backend, MemoryBackend)
            yield backend
