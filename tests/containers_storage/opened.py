"""The backend, opened on a store of the test's own, with calls as short as tests want them."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from criimage.backend import PullContext
from criimage.reference import Lookup, Name, Reference
from criimage_containers_storage import Settings, plugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from criimage.backend import Backend, Image, ImageDetails, PullProgress
    from criimage.credentials import Credentials
    from parts.store import Store


SECONDS = 30.0
"""What nothing here takes; only there so that a failing test ends."""


IMAGE_PROXY = True
"""What the backend is opened with; the fixture `each_way` has it both ways."""


@dataclass(slots=True)
class Opened:
    """The backend under test.

    Attributes:
        backend: all of it.
        reports: every progress report of every pull.
    """

    backend: Backend
    reports: list[PullProgress] = field(default_factory=list)

    async def pull(self, name: str, credentials: Credentials | None = None, namespace: str = "") -> Image:
        """Pulls a name, by its first candidate."""
        reference = (await self.backend.resolve(Name.parse(name)))[0]
        return await self.backend.pull(reference, credentials, PullContext(namespace), self.reports.append)

    async def status(self, text: str, *, verbose: bool = False) -> ImageDetails | None:
        """Looks an image up as a client writes it."""
        return await self.backend.status(Lookup.parse(text), verbose=verbose)

    async def remove(self, text: str) -> None:
        """Removes an image as a client writes it."""
        await self.backend.remove(Lookup.parse(text))


@contextlib.asynccontextmanager
async def opened(store: Store, **settings: object) -> AsyncIterator[Opened]:
    """Opens the backend on a store; what is not given in `settings` leads into the store's own folder."""
    given = {
        "root": str(store.root),
        "run_root": str(store.run_root),
        "driver": store.driver,
        "registries_conf": str(store.registries_conf),
        "policy": str(store.policy),
        "tmp_dir": str(store.tmp),
        "image_proxy": IMAGE_PROXY,
    }
    async with plugin.open(Settings.model_validate(given | settings)) as backend:
        # As the core does it once a server has settled: what a dead server has left is taken over.
        await backend.check()
        yield Opened(backend)


def until(condition: Callable[[], object]) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.01)


def texts(references: tuple[Reference, ...]) -> list[str]:
    """References as clients see them."""
    return [str(reference) for reference in references]
