"""The containers-storage backend keeps the contract (docs/contract.md), on a real store and with real registries."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from contract.real_registry import RealRegistry, real_registries
from criimage.testing.conformance import BackendConformance, Capability
from criimage_containers_storage import Settings, plugin
from parts.missing import need, need_root
from parts.store import Store, store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from criimage.backend import Backend
    from criimage.reference import ImageID
    from parts.registry import Registry


@pytest.fixture(scope="module")
def registries() -> Iterator[tuple[Registry, Registry]]:
    """The registries of all tests here: each test has a store of its own, so they need not."""
    with real_registries() as running:
        yield running


@pytest.mark.engine
class TestContainersStorage(BackendConformance):
    """Everything is expected of it."""

    capabilities = Capability.EXPECTED | Capability.IN_USE

    @pytest.fixture
    def registry(self, registries: tuple[Registry, Registry]) -> RealRegistry:
        """See RealRegistry."""
        return RealRegistry(*registries)

    @pytest.fixture(params=["overlay", "vfs"])
    def place(self, request: pytest.FixtureRequest) -> Iterator[Store]:
        """A store of the test's own, with each driver."""
        need("skopeo", "containers-storage")
        need_root()
        with store(driver=request.param) as made:
            yield made

    @pytest.fixture
    def open_backend(self, place: Store) -> Callable[[], AbstractAsyncContextManager[Backend]]:
        """Open it as the server does."""
        settings = Settings(
            root=str(place.root),
            run_root=str(place.run_root),
            driver=place.driver,
            registries_conf=str(place.registries_conf),
            policy=str(place.policy),
            tmp_dir=str(place.tmp),
        )
        return lambda: plugin.open(settings)

    @pytest.fixture
    def hold(self, place: Store) -> Callable[[ImageID], AbstractAsyncContextManager[None]]:
        """Make a container of the image."""

        @asynccontextmanager
        async def held(image: ImageID) -> AsyncIterator[None]:
            container = await asyncio.to_thread(place.hold, image.hex)
            yield
            await asyncio.to_thread(place.release, container)

        return held

    @pytest.fixture
    def leftovers(self, place: Store) -> Callable[[], Awaitable[Sequence[str]]]:
        """Look into the store's own files and the folder for downloads."""

        async def look() -> Sequence[str]:
            return [
                *place.images(),
                *place.layers(),
                *place.layer_folders(),
                *(str(path) for path in place.tmp.iterdir()),
            ]

        return look
