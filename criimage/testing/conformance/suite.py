"""The fixtures of the suite: what an author overrides."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from criimage.testing.stand import Capability, Stand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from criimage.backend import Backend
    from criimage.reference import ImageID
    from criimage.testing.stand import ConformanceRegistry

__all__ = ["Suite"]


@pytest.mark.asyncio
class Suite:
    """Every test opens the backend of its own on an empty store, and leaves it empty (B41).

    Attributes:
        capabilities: see Capability; what is missing is skipped by name. Of the class, or set by a fixture where it
            depends on what is there.
    """

    capabilities: Capability = Capability.EXPECTED

    @pytest.fixture
    def open_backend(self) -> Callable[[], AbstractAsyncContextManager[Backend]]:
        """Return what opens the backend under test; to be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def registry(self) -> ConformanceRegistry:
        """Return where images come from; to be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def hold(self) -> Callable[[ImageID], AbstractAsyncContextManager[None]]:
        """Return what holds an image as a container does; to be overridden with IN_USE."""

        @asynccontextmanager
        async def nothing(_image: ImageID) -> AsyncIterator[None]:
            yield

        return nothing

    @pytest.fixture
    def give_name(self) -> Callable[[ImageID, str], Awaitable[None]]:
        """Return what names an image as another tool would; to be overridden with NAMING."""

        async def nothing(_image: ImageID, _name: str) -> None:
            return

        return nothing

    @pytest.fixture
    def leftovers(self) -> Callable[[], Awaitable[Sequence[str]]]:
        """Return what tells of files, layers and processes that are left; overridden where there can be any."""

        async def none() -> Sequence[str]:
            return ()

        return none

    @pytest.fixture
    def stand(
        self,
        open_backend: Callable[[], AbstractAsyncContextManager[Backend]],
        registry: ConformanceRegistry,
        hold: Callable[[ImageID], AbstractAsyncContextManager[None]],
        leftovers: Callable[[], Awaitable[Sequence[str]]],
        give_name: Callable[[ImageID, str], Awaitable[None]],
    ) -> Stand:
        """Put the parts together."""
        return Stand(open_backend, registry, hold, leftovers, give_name)

    def need(self, capability: Capability) -> None:
        """Skip the running test where the class does not declare `capability`."""
        if not self.capabilities & capability:
            pytest.skip(f"{type(self).__name__} declares no {capability.name}")
