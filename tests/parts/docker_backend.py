"""The docker backend on an engine of the tests, and what tests ask of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from criimage.backend import PullContext
from criimage.reference import DEFAULT_DOMAIN, Lookup, Pattern, Reference
from criimage_docker.backend import DockerBackend
from criimage_docker.settings import Settings
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from criimage.backend import Image, ImageDetails, PullProgress
    from criimage.credentials import Credentials


T = TypeVar("T")


@contextlib.asynccontextmanager
async def docker_backend(host: str, **settings: object) -> AsyncIterator[DockerBackend]:
    """Opens the backend.

    Args:
        host: where the engine listens.
        settings: as in the table `[backends.docker]`.

    Yields:
        the backend, which may not follow the engine's events yet; see `following`.
    """
    from criimage_docker import plugin

    async with plugin.open(Settings.model_validate({"host": host, **settings})) as backend:
        assert isinstance(backend, DockerBackend)
        yield backend


async def following(backend: DockerBackend) -> None:
    """Waits until the backend follows the engine's events, what it missed included, and answers from its cache."""
    await until(lambda: backend._view.trusted)
    # The engine repeats the events of the last seconds; they come at once, but after the first answer.
    before = -1
    while before != backend._view.generation:
        before = backend._view.generation
        await backend.images()
        await asyncio.sleep(0.2)


async def mended(backend: DockerBackend) -> None:
    """Waits until what somebody else's pull did is known; a list that comes while the engine is asked asks as well."""
    await until(lambda: not backend._view._mending)


async def counted(
    backend: DockerBackend, count: Callable[[], Awaitable[T]], fits: Callable[[T], bool], times: int = 5
) -> T:
    """Counts what the engine is asked, again where it is not what it should be, and returns the last count.

    An event that a busy machine brings later than anybody waits for it costs a question, once.
    """
    await following(backend)
    found = await count()
    if fits(found) or times == 1:
        return found
    return await counted(backend, count, fits, times - 1)


async def pull(
    backend: DockerBackend,
    name: str,
    credentials: Credentials | None = None,
    report: Callable[[PullProgress], None] = lambda progress: None,
) -> Image:
    """Pulls an image by its name."""
    return await backend.pull(Reference.parse(name, DEFAULT_DOMAIN), credentials, PullContext(), report)


async def status(backend: DockerBackend, text: str, *, verbose: bool = False) -> ImageDetails | None:
    """Looks for an image as a client does."""
    return await backend.status(Lookup.parse(text), verbose=verbose)


async def remove(backend: DockerBackend, text: str) -> None:
    """Removes an image as a client does."""
    await backend.remove(Lookup.parse(text))


async def listed(backend: DockerBackend, text: str = "") -> set[str]:
    """The IDs of the images that a list shows, all of them without a filter."""
    return {str(image.id) for image in await backend.images(Pattern.parse(text) if text else None)}
