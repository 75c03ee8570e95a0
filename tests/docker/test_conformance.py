"""The docker backend keeps the contract (docs/contract.md), on three real engines and with real registries."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from contract.real_registry import RealRegistry, _image, real_registries
from criimage.reference import ImageID
from criimage.testing.conformance import BackendConformance, Capability
from criimage.testing.stand import Published
from criimage_docker import Settings, plugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from criimage.backend import Backend
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


class RegistryForContainerd(RealRegistry):
    """The same images, whose ID in the containerd store is the manifest's digest."""

    def image_id(self, seed: str) -> ImageID:
        """Return the manifest's digest."""
        return ImageID.parse(_image(seed, "").digest)

    async def put(self, seed: str, *names: str, user: str = "", private: bool = False) -> Published:
        """Push it under each name."""
        published = await super().put(seed, *names, user=user, private=private)
        return Published(published.references, ImageID.parse(published.digest), published.digest)


@pytest.fixture(scope="session")
def registries() -> Iterator[tuple[Registry, Registry]]:
    """The registries of all tests here: each test begins with an empty engine, so they need not be empty."""
    with real_registries() as running:
        yield running


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "uncached"])
class TestDocker(BackendConformance):
    """Everything is expected of it, with the cached view and without."""

    capabilities = Capability.EXPECTED | Capability.IN_USE | Capability.NAMING | Capability.NAME_FIRST

    @pytest.fixture(autouse=True)
    def of_this_engine(self, docker: Engine) -> None:
        """A graph driver goes on reading from a registry that hangs (docs/backends/docker.md)."""
        if not docker.kind.containerd_store:
            self.capabilities &= ~Capability.STOPS_PULLS

    @pytest.fixture
    def registry(self, docker: Engine, registries: tuple[Registry, Registry]) -> RealRegistry:
        """See RealRegistry."""
        return (RegistryForContainerd if docker.kind.containerd_store else RealRegistry)(*registries)

    @pytest.fixture
    def open_backend(self, docker: Engine, cache: bool) -> Callable[[], AbstractAsyncContextManager[Backend]]:
        """Open it as the server does."""
        # What an engine in another root names is not this machine's.
        mountpoint = "" if docker.kind.system is None else str(docker.folder)
        return lambda: plugin.open(Settings(host=docker.host, cache=cache, mountpoint=mountpoint))

    @pytest.fixture
    def hold(self, docker: Engine) -> Callable[[ImageID], AbstractAsyncContextManager[None]]:
        """Make a container of the image."""

        @asynccontextmanager
        async def held(image: ImageID) -> AsyncIterator[None]:
            await asyncio.to_thread(docker.hold, str(image), "holder")
            yield
            await asyncio.to_thread(docker.ask, "DELETE", "/containers/holder", {"force": "1"})

        return held

    @pytest.fixture
    def give_name(self, docker: Engine) -> Callable[[ImageID, str], Awaitable[None]]:
        """Tag it; the event is on its way when the engine has answered."""

        async def named(image: ImageID, name: str) -> None:
            await asyncio.to_thread(docker.tag, str(image), name, "latest")

        return named

    @pytest.fixture
    def leftovers(self, docker: Engine) -> Callable[[], Awaitable[Sequence[str]]]:
        """Ask the engine for everything it has."""

        async def look() -> Sequence[str]:
            every = await asyncio.to_thread(docker.ask, "GET", "/images/json", {"all": "1"})
            return [str(one["Id"]) for one in every.json()]

        return look
