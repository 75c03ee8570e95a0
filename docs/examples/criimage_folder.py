"""A backend whose store is an OCI image layout in a folder, filled from registries in plain HTTP: an example."""  # noqa: INP001 - a module of its own

from __future__ import annotations

import itertools
import json
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from criimage import foreign_json
from criimage.backend import FilesystemUsage, Image, ImageDetails, Problem, Usage
from criimage.plugins import CONTRACT, Plugin
from criimage.reference import DEFAULT_DOMAIN, Lookup, Reference
from criimage.testing.oci import OCI_MANIFEST, Blob
from criimage.testing.remote import FetchedImage, RemoteRegistry, read_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from criimage.backend import ProgressReporter, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Name, Pattern

_NAME = "org.opencontainers.image.ref.name"


class Settings(BaseModel):
    """The table `[backends.folder]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path = Field(default=Path("/srv/images"), description="the folder with the image layout")
    registry: str = Field(default="127.0.0.1:5000", description="HOST:PORT of the registry to pull from")


class Layout:
    """The folder: blobs by digest, and index.json with a line for each name. Its calls block."""

    def __init__(self, path: Path) -> None:
        self.path, self._numbers = path, itertools.count(1)

    def blob(self, _repository: str, digest: str) -> bytes:
        """Return a blob's bytes."""
        return self._file(digest).read_bytes()

    def manifest(self, _repository: str, digest: str) -> Blob:
        """Return a manifest; a blob like any other."""
        return Blob.of("", self.blob("", digest))

    def _file(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def keep(self, digest: str, data: bytes) -> None:
        """Write a blob whole or not at all."""
        file = self._file(digest)
        half = self.path / f".{file.name}.{next(self._numbers)}"
        half.write_bytes(data)
        half.replace(file)

    def names(self) -> dict[Reference, str]:
        """Return the manifest's digest for each name."""
        (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for half in self.path.glob(".*.*"):
            half.unlink()  # of a server that was killed
        index = self.path / "index.json"
        entries = foreign_json.parse(index.read_bytes())["manifests"] if index.exists() else []
        return {Reference.parse(one["annotations"][_NAME]): one["digest"] for one in entries}

    def write(self, names: dict[Reference, str], wanted: Callable[[str], bool]) -> None:
        """Make these the names, then delete every blob that is not wanted."""
        entries: list[dict[str, Any]] = [
            {"mediaType": OCI_MANIFEST, "digest": digest, "size": self._file(digest).stat().st_size}
            | {"annotations": {_NAME: str(name)}}
            for name, digest in names.items()
        ]
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        half = self.path / ".index.json"
        half.write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
        half.replace(self.path / "index.json")
        for file in (self.path / "blobs" / "sha256").iterdir():
            # Asked for each file: a pull tells of a part before it writes it.
            if not wanted(f"sha256:{file.name}"):
                file.unlink()


class FolderBackend:
    """See `criimage.backend.Backend`; each image is read once, when the folder is opened or it is pulled."""

    reports_progress = False

    def __init__(self, settings: Settings) -> None:
        self._layout, self._remote = Layout(settings.path), RemoteRegistry(settings.registry)
        self._names: dict[Reference, tuple[str, FetchedImage]] = {}
        self._images: tuple[Image, ...] = ()
        # Parts of pulls that are not complete: nobody deletes them.
        self._coming: dict[object, set[str]] = {}

    def load(self) -> None:
        """Read the folder. Blocks."""
        read = {
            name: (digest, read_image(self._layout, name.with_digest(digest), _All()))
            for name, digest in self._layout.names().items()
        }
        self._set(read)
        self._save()

    def _set(self, names: dict[Reference, tuple[str, FetchedImage]]) -> None:
        self._names = names
        facts = {one.id: one for _, one in names.values()}
        found = []
        for image_id, one in sorted(facts.items()):
            mine = [(name, other.digests) for name, (_, other) in names.items() if other.id == image_id]
            tags = sorted(name for name, _ in mine if name.tag and not name.digest)
            digests = dict.fromkeys(name.with_digest(digest) for name, all_ in mine for digest in all_)
            found.append(Image(image_id, tuple(tags), tuple(digests), one.size))
        self._images = tuple(found)

    def _save(self) -> None:
        # Short: one small file and some deletions, so nothing else comes in between.
        kept = {digest for _, one in self._names.values() for digest in (*one.digests, str(one.id), *one.layers)}
        names = {name: digest for name, (digest, _) in self._names.items()}
        self._layout.write(names, lambda digest: digest in kept or any(digest in one for one in self._coming.values()))

    async def check(self) -> tuple[Problem, ...]:
        """Tell whether the folder is there."""
        there = await anyio.to_thread.run_sync(self._layout.path.is_dir)
        return () if there else (Problem(f"{self._layout.path} is no folder", "make it, or set path"),)

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """A name without a registry means docker.io's."""
        return (name.qualified(name.domain or DEFAULT_DOMAIN),)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List the images; the same tuple until a pull or a removal."""
        if pattern is None:
            return self._images
        details = await self.status(pattern.lookup) if pattern.lookup is not None else None
        return (details.image,) if details is not None else ()

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Find an image by ID, then by the beginning of one, then by name."""
        found = [image for image in self._images if image.id == lookup.id]
        if not found and lookup.id_prefix is not None:
            found = [image for image in self._images if image.id.hex.startswith(lookup.id_prefix)]
        if len(found) != 1 and lookup.name is not None:
            (wanted,) = await self.resolve(lookup.name)
            # With a digest the tag before it says nothing more.
            wanted = wanted.with_digest(wanted.digest) if wanted.digest else wanted
            found = [image for image in self._images if wanted in image.tags or wanted in image.digests]
        if len(found) != 1:
            return None
        facts = next(one for _, one in self._names.values() if one.id == found[0].id)
        info = {"info": foreign_json.dump({"imageSpec": facts.config})} if verbose else {}
        return ImageDetails(found[0], facts.user, facts.annotations, info)

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        """Read the image from the registry, keep its parts, and write its name at the end."""
        mine = object()
        coming = self._coming[mine] = {digest for _, one in self._names.values() for digest in one.layers}

        def keep(digest: str, data: bytes) -> None:
            coming.add(digest)
            self._layout.keep(digest, data)

        try:
            fetched = await self._remote.fetch(reference, credentials, frozenset(coming), keep)
            self._set(self._names | {reference: (fetched.digests[0], fetched)})
        finally:
            del self._coming[mine]
            self._save()
        return next(image for image in self._images if image.id == fetched.id)

    async def remove(self, lookup: Lookup) -> None:
        """Forget the image with all its names, and delete what nobody else has."""
        details = await self.status(lookup)
        if details is not None:
            self._set({name: one for name, one in self._names.items() if one[1].id != details.image.id})
            self._save()

    async def usage(self) -> Usage:
        """Add up the blobs."""
        sizes = await anyio.to_thread.run_sync(self._sizes)
        usage = (FilesystemUsage(str(self._layout.path), sum(sizes), len(sizes), time.time_ns()),)
        return Usage(usage, usage)

    def _sizes(self) -> list[int]:
        return [file.stat().st_size for file in (self._layout.path / "blobs" / "sha256").iterdir()]


class _All(frozenset[str]):
    """Every digest: the layers in the folder were checked when they came."""

    def __contains__(self, _digest: object) -> bool:
        return True


@asynccontextmanager
async def open_folder(settings: Settings) -> AsyncIterator[FolderBackend]:
    """Open the folder and read it."""
    backend = FolderBackend(settings)
    await anyio.to_thread.run_sync(backend.load)
    yield backend


plugin = Plugin("folder", CONTRACT, Settings, open_folder)
