"""A backend for image archives in a folder: an example of the contract."""  # noqa: INP001 - a module of its own

from __future__ import annotations

import hashlib
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from criimage.backend import FilesystemUsage, Image, ImageDetails, Problem, Usage
from criimage.errors import InvalidRequest, RemoteImageMissing
from criimage.plugins import CONTRACT, Plugin
from criimage.reference import ImageID, Reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import ProgressReporter, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Lookup, Name, Pattern

REGISTRY = "folder.local"


class Settings(BaseModel):
    """The table `[backends.folder]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(default=Path("/srv/images"), description="The folder with the archives.")


class FolderBackend:
    """See `criimage.backend.Backend`."""

    reports_progress = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[Image, ...] = ()

    async def check(self) -> tuple[Problem, ...]:
        """Tell whether the folder is there."""
        if await anyio.to_thread.run_sync(self._path.is_dir):
            return ()
        return (Problem(f"{self._path} is no folder", "make it, or set path"),)

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """A short name is one of ours."""
        return (name.qualified(name.domain or REGISTRY),)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List the archives; the same tuple while they are the same."""
        found = await anyio.to_thread.run_sync(self._read)
        if found != self._last:
            self._last = found
        if pattern is None:
            return self._last
        details = await self.status(pattern.lookup) if pattern.lookup is not None else None
        return (details.image,) if details is not None else ()

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Find an image by ID, then by the beginning of one, then by name."""
        images = await self.images()
        found: list[Image] = []
        if lookup.id is not None:
            found = [image for image in images if image.id == lookup.id]
        elif lookup.id_prefix is not None:
            found = [image for image in images if image.id.hex.startswith(lookup.id_prefix)]
        if len(found) != 1 and lookup.name is not None:
            (reference,) = await self.resolve(lookup.name)
            found = [image for image in images if reference in image.tags]
        return ImageDetails(found[0]) if len(found) == 1 else None

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        """There is nothing to fetch: what is here is here."""
        for image in await self.images():
            if reference in image.tags:
                return image
        raise RemoteImageMissing(f"no such archive: {reference}")

    async def remove(self, lookup: Lookup) -> None:
        """Delete the archive."""
        details = await self.status(lookup)
        if details is not None:
            archive = self._path / f"{details.image.tags[0].path}.tar"
            await anyio.to_thread.run_sync(lambda: archive.unlink(missing_ok=True))

    async def usage(self) -> Usage:
        """Add up the sizes."""
        images = await self.images()
        used = FilesystemUsage(str(self._path), sum(image.size for image in images), len(images), time.time_ns())
        return Usage((used,), (used,))

    def _read(self) -> tuple[Image, ...]:
        found = []
        for archive in sorted(self._path.glob("*.tar")):
            try:
                tag = Reference.parse(f"{REGISTRY}/{archive.stem}:latest")
                size = max(1, archive.stat().st_size)
            except (InvalidRequest, OSError):
                continue  # what cannot be an image, or has just gone, is left out
            found.append(Image(ImageID(hashlib.sha256(archive.name.encode()).hexdigest()), (tag,), size=size))
        return tuple(found)


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[FolderBackend]:
    yield FolderBackend(settings.path)


plugin = Plugin("folder", CONTRACT, Settings, _open)
