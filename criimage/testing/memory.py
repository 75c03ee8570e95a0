"""A complete backend in memory: the contract's reference implementation, and what tests of the server run on.

Its registry is a dict as well: `Registry.put` makes an image that can be pulled. Nothing leaves the process, unless the
setting `registry` names a real one: then manifests, configs and layers are read from there and checked, and all but the
facts is thrown away.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from criimage import foreign_json
from criimage.backend import (
    FilesystemUsage,
    Image,
    ImageDetails,
    Phase,
    Problem,
    ProgressReporter,
    PullContext,
    PullProgress,
    Usage,
    User,
)
from criimage.catalogue import find, matching, qualified
from criimage.errors import AccessDenied, ImageInUse, RemoteImageMissing
from criimage.plugins import CONTRACT, Plugin
from criimage.reference import DEFAULT_DOMAIN, ImageID, Lookup, Name, Pattern, Reference
from criimage.testing.remote import FetchedImage, RemoteRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from criimage.credentials import Credentials

__all__ = ["MemoryBackend", "MemorySettings", "Registry", "RemoteImage", "plugin"]


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image in the registry; two with equal `content` are one image when stored.

    Attributes:
        content: anything; ID and digest are made of it.
        size: bytes.
        user: what a status tells.
        annotations: what a status tells.
        owner: only these credentials may pull it; None for everybody.
    """

    content: str
    size: int = 1024
    user: User | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    owner: Credentials | None = None

    @property
    def id(self) -> ImageID:
        """What the stored image's ID will be."""
        return ImageID(hashlib.sha256(b"config " + self.content.encode()).hexdigest())

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return "sha256:" + hashlib.sha256(b"manifest " + self.content.encode()).hexdigest()

    @property
    def digests(self) -> tuple[str, ...]:
        """Every digest that is stored for it."""
        return (self.digest,)


class Registry:
    """Every registry there is."""

    def __init__(self) -> None:
        self._images: dict[Reference, RemoteImage] = {}

    def put(self, name: str, image: RemoteImage) -> Reference:
        """Make `image` pullable as `name` and by its digest; return the reference."""
        reference = Reference.parse(name, DEFAULT_DOMAIN)
        self._images[reference] = image
        self._images[reference.with_digest(image.digest)] = image
        return reference

    def withdraw(self, reference: Reference) -> None:
        """Forget the image of a reference, by its digest too."""
        image = self._images.pop(reference)
        self._images.pop(reference.with_digest(image.digest), None)

    def get(self, reference: Reference, credentials: Credentials | None) -> RemoteImage:
        """Return the image that a pull would get.

        Raises:
            RemoteImageMissing: there is none.
            AccessDenied: it belongs to somebody else.
        """
        image = self._images.get(reference)
        if image is None:
            raise RemoteImageMissing(f"manifest unknown: {reference}")
        if image.owner is not None and image.owner != credentials:
            raise AccessDenied(f"unauthorized: {reference}")
        return image


@dataclass(slots=True)
class _Stored:
    """A stored image; names that it lost stay known as digests."""

    remote: RemoteImage | FetchedImage
    tags: set[Reference] = field(default_factory=set)
    digests: set[Reference] = field(default_factory=set)

    def image(self) -> Image:
        return Image(self.remote.id, tuple(sorted(self.tags)), tuple(sorted(self.digests)), self.remote.size)


class MemoryBackend:
    """Images in a dict.

    Args:
        registry: where pulls come from.
        problems: what `check` answers.
        remote: a real registry, in place of `registry`.

    Attributes:
        registry: as given.
        in_use: IDs of images that cannot be removed.
    """

    reports_progress = True

    def __init__(
        self,
        registry: Registry | None = None,
        problems: tuple[Problem, ...] = (),
        remote: RemoteRegistry | None = None,
    ) -> None:
        self.registry = registry or Registry()
        self._remote = remote
        self.in_use: set[ImageID] = set()
        self._problems = problems
        self._stored: dict[ImageID, _Stored] = {}
        self._images: tuple[Image, ...] | None = None

    async def check(self) -> tuple[Problem, ...]:
        """Return the problems given at the start."""
        return self._problems

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Return the one reference a name means; a short name is docker.io's."""
        return (qualified(name),)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List what is stored, by ID; the same tuple until something changes."""
        return self._listed() if pattern is None else matching(self._listed(), pattern)

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Return the image found, or None."""
        found = self._find(lookup)
        if found is None:
            return None
        info = {"info": _info(found.remote)} if verbose else {}
        return ImageDetails(found.image(), found.remote.user, dict(found.remote.annotations), info)

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        context: PullContext,
        report: ProgressReporter,
    ) -> Image:
        """Copy an image from the registry and move the name to it."""
        remote: RemoteImage | FetchedImage
        if self._remote is not None:
            remote = await self._fetched(self._remote, reference, credentials, report)
        else:
            remote = self.registry.get(reference, credentials)
            report(PullProgress(Phase.DOWNLOADING, 0, remote.size))
            await self.download(remote)
        report(PullProgress(Phase.DONE, remote.size, remote.size))
        stored = self._stored.setdefault(remote.id, _Stored(remote))
        stored.digests.update(reference.with_digest(digest) for digest in remote.digests)
        if reference.tag is not None:
            for other in self._stored.values():
                other.tags.discard(reference)
            stored.tags.add(reference)
        self._images = None
        return stored.image()

    async def _fetched(
        self,
        remote: RemoteRegistry,
        reference: Reference,
        credentials: Credentials | None,
        report: ProgressReporter,
    ) -> FetchedImage:
        report(PullProgress(Phase.DOWNLOADING))
        stored = [one.remote for one in self._stored.values() if isinstance(one.remote, FetchedImage)]
        present = frozenset(digest for one in stored for digest in one.layers)
        return await remote.fetch(reference, credentials, present)

    async def download(self, remote: RemoteImage) -> None:
        """Take no time; a test overrides it to take some."""

    async def remove(self, lookup: Lookup) -> None:
        """Forget the image with all its names."""
        found = self._find(lookup)
        if found is None:
            return
        if found.remote.id in self.in_use:
            raise ImageInUse(f"image used by a container: {found.remote.id}")
        del self._stored[found.remote.id]
        self._images = None

    async def usage(self) -> Usage:
        """Return the sum of the sizes."""
        used = sum(stored.remote.size for stored in self._stored.values())
        usage = (FilesystemUsage("/", used, len(self._stored), time.time_ns()),)
        return Usage(usage, usage)

    def _find(self, lookup: Lookup) -> _Stored | None:
        found = find(self._listed(), lookup)
        return self._stored[found.id] if found is not None else None

    def _listed(self) -> tuple[Image, ...]:
        if self._images is None:
            self._images = tuple(self._stored[key].image() for key in sorted(self._stored))
        return self._images


def _info(remote: RemoteImage | FetchedImage) -> str:
    return foreign_json.dump({"imageSpec": dict(remote.config) if isinstance(remote, FetchedImage) else {}})


class MemorySettings(BaseModel):
    """The table `[backends.memory]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    registry: str = Field(
        default="", description="HOST:PORT of a registry to pull from, in plain HTTP; empty: two images made up"
    )


@asynccontextmanager
async def _open(settings: MemorySettings) -> AsyncIterator[MemoryBackend]:
    if settings.registry:
        yield MemoryBackend(remote=RemoteRegistry(settings.registry))
        return
    registry = Registry()
    for tag in ("latest", "1"):
        registry.put(f"example.com/demo:{tag}", RemoteImage(f"demo {tag}"))
    yield MemoryBackend(registry)


plugin = Plugin("memory", CONTRACT, MemorySettings, _open)
"""What the entry point `memory` leads to."""
