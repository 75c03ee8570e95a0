"""The cri backend keeps the contract (docs/contract.md) with a real containerd behind it, and real registries."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from contract.real_registry import RealRegistry
from criimage.reference import Lookup
from criimage.testing.conformance import BackendConformance, Capability
from criimage_cri import Settings, plugin
from parts.pods import container

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from criimage.backend import Backend
    from criimage.reference import ImageID
    from parts.containerd import Containerd
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


class TestCriOnContainerd(BackendConformance):
    """Everything is expected of it."""

    capabilities = Capability.EXPECTED | Capability.IN_USE | Capability.NAMING | Capability.NAME_FIRST

    @pytest.fixture
    def registry(self, registries: tuple[Registry, Registry]) -> RealRegistry:
        """See RealRegistry."""
        return RealRegistry(*registries)

    @pytest.fixture
    def open_backend(self, runtime: Containerd) -> Callable[[], AbstractAsyncContextManager[Backend]]:
        """Open it as the server does."""
        return lambda: plugin.open(Settings(endpoint=runtime.endpoint))

    @pytest.fixture
    def hold(self, runtime: Containerd, pause: str) -> Callable[[ImageID], AbstractAsyncContextManager[None]]:
        """Make a container of the image; the pod's own image comes and goes with it."""

        @asynccontextmanager
        async def held(image: ImageID) -> AsyncIterator[None]:
            holder = container(runtime.endpoint, str(image))
            await asyncio.to_thread(holder.__enter__)
            try:
                yield
            finally:
                await asyncio.to_thread(holder.__exit__, None, None, None)
                async with plugin.open(Settings(endpoint=runtime.endpoint)) as backend:
                    await backend.remove(Lookup.parse(pause))

        return held

    @pytest.fixture
    def give_name(self, runtime: Containerd) -> Callable[[ImageID, str], Awaitable[None]]:
        """Tag it with containerd's own client, in full."""

        async def named(image: ImageID, name: str) -> None:
            await asyncio.to_thread(runtime.tag, str(image), f"docker.io/library/{name}:latest")

        return named

    @pytest.fixture
    def leftovers(self, runtime: Containerd) -> Callable[[], Awaitable[Sequence[str]]]:
        """Ask containerd itself for images, and for downloads that nobody finished or ended."""

        async def look() -> Sequence[str]:
            images = await asyncio.to_thread(runtime.ctr, "images", "ls", "-q")
            return images.split()

        return look
