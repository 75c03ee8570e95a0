"""The backend: each call of the contract, put together from the parts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.backend import Problem
from criimage.channel import Channel
from criimage.endpoint import socket_path
from criimage.errors import BackendUnavailable, CriimageError
from criimage_cri.content import ContentService
from criimage_cri.names import meaning
from criimage_cri.progress import ProgressWatch
from criimage_cri.pull import Puller
from criimage_cri.records import usage_of
from criimage_cri.removal import Remover
from criimage_cri.upstream import Upstream
from criimage_cri.view import View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Image, ImageDetails, ProgressReporter, PullContext, Usage
    from criimage.credentials import Credentials
    from criimage.reference import Lookup, Name, Pattern, Reference
    from criimage_cri.settings import Settings

__all__ = ["CriBackend", "open_backend"]

_CHECK_SECONDS = 4.0
"""Shorter than the core waits for a check, so that it is always this one that tells of a runtime that hangs."""


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[CriBackend]:
    """Open the backend; the runtime itself may be down."""
    async with Channel(socket_path(settings.endpoint)) as channel:
        content = ContentService(channel)
        watch = ProgressWatch(content)
        async with watch.running():
            yield CriBackend(Upstream(channel, settings.request_timeout, content), settings, watch)


class CriBackend:
    """See `criimage.backend.Backend`."""

    def __init__(self, upstream: Upstream, settings: Settings, watch: ProgressWatch) -> None:
        self._upstream = upstream
        self._endpoint = settings.endpoint
        self._view = View(upstream)
        self._puller = Puller(upstream, self._view, watch, allow_unproven=settings.allow_unproven_pulls)
        self._remover = Remover(upstream, self._view)

    @property
    def reports_progress(self) -> bool:
        """Only where the runtime's content service tells of downloads, which is behind containerd."""
        return self._upstream.tells_downloads

    async def check(self) -> tuple[Problem, ...]:
        """Ask the runtime for a sign of life, and whether it has an image service."""
        try:
            await self._upstream.greet(_CHECK_SECONDS)
        except BackendUnavailable as error:
            remedy = f"start the runtime, or set endpoint to where it listens; it is {self._endpoint}"
            if "has no CRI image service" in error.text:
                remedy = (
                    'take "cri" out of disabled_plugins in the containerd configuration, or set endpoint to a runtime'
                )
            return (Problem(error.text, remedy),)
        except CriimageError as error:
            return (Problem(error.text, "see the runtime's own log"),)
        return ()

    async def limits(self) -> tuple[Problem, ...]:
        """Tell what this runtime cannot be brought to do; nothing where it does not answer."""
        return self._upstream.last_known.limits()

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Return the one reference that a name means to the runtime.

        Who that is is asked where it is not known, though a complete name means the same to all of them: whether it
        tells of downloads decides about the deadlines of the pull that comes next, and is to be known before it begins.
        """
        return (meaning(name, await self._upstream.runtime()),)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List the images by ID; with a pattern, the one that a status finds (containerd ignores filters)."""
        if pattern is None:
            return await self._view.images()
        details = None if pattern.lookup is None else await self._view.find(pattern.lookup)
        return () if details is None else (details.image,)

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Return one image, as the runtime shows it."""
        return await self._view.find(lookup, verbose=verbose)

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        context: PullContext,
        report: ProgressReporter,
    ) -> Image:
        """Have the runtime pull an image."""
        return await self._puller.pull(reference, credentials, context, report)

    async def remove(self, lookup: Lookup) -> None:
        """Remove an image with all its names."""
        await self._remover.remove(lookup)

    async def usage(self) -> Usage:
        """Return the runtime's own figures."""
        return usage_of(await self._upstream.images("ImageFsInfo", b""))
