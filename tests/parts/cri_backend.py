"""The cri backend on a runtime of the tests, and what tests ask of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from criimage.backend import PullContext
from criimage.reference import DEFAULT_DOMAIN, Lookup, Pattern, Reference
from criimage_cri import Settings, plugin
from criimage_cri.backend import CriBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from criimage.backend import Image, ImageDetails, PullProgress
    from criimage.credentials import Credentials


@contextlib.asynccontextmanager
async def cri_backend(endpoint: str, **settings: object) -> AsyncIterator[CriBackend]:
    """Opens the backend.

    Args:
        endpoint: where the runtime listens.
        settings: as in the table `[backends.cri]`.

    Yields:
        the backend.
    """
    async with plugin.open(Settings.model_validate({"endpoint": endpoint, **settings})) as backend:
        assert isinstance(backend, CriBackend)
        yield backend


async def pull(
    backend: CriBackend,
    name: str,
    credentials: Credentials | None = None,
    report: Callable[[PullProgress], None] = lambda progress: None,
    context: PullContext | None = None,
) -> Image:
    """Pulls an image by its name."""
    reference = Reference.parse(name, DEFAULT_DOMAIN)
    return await backend.pull(reference, credentials, context or PullContext(), report)


async def status(backend: CriBackend, text: str, *, verbose: bool = False) -> ImageDetails | None:
    """Looks for an image as a client does."""
    return await backend.status(Lookup.parse(text), verbose=verbose)


async def remove(backend: CriBackend, text: str) -> None:
    """Removes an image as a client does."""
    await backend.remove(Lookup.parse(text))


async def listed(backend: CriBackend, text: str = "") -> tuple[Image, ...]:
    """What a list shows, all of it without a filter."""
    return await backend.images(Pattern.parse(text) if text else None)
