"""A backend whose store is an OCI image layout in a folder, filled from registries in plain HTTP: an example."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from criimage import foreign_json
from criimage.backend import Problem
from criimage.catalogue import find, matching, qualified
from criimage.disk_usage import folder_usage
from criimage.plugins import Plugin
from criimage.reference import Reference
from criimage.testing.oci import Blob
from criimage.testing.remote import RemoteRegistry, read_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from criimage.backend import Image, ImageDetails, ProgressReporter, PullContext, Usage
    from criimage.credentials import Credentials
    from criimage.reference import Lookup, Name, Pattern
    from criimage.testing.remote import FetchedImage

_NAME = "org.opencontainers.image.ref.name"


class Settings(BaseModel):
    """The table `[backends.folder]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path = Field(default=Path("/srv/images"), description="the folder with the image layout")
    registry: str = Field(default="127.0.0.1:5000", description="HOST:PORT of the registry to pull from")


class Layout:
    """The folder: blobs by digest, and index.json with an entry for each name. Its calls block."""

    def __init__(self, path: Path) -> None:
        self.path, self.blobs = path, path / "blobs" / "sha256"

    def blob(self, _repository: str, digest: str) -> bytes:
        """Return a blob's bytes."""
        return (self.blobs / digest.removeprefix("sha256:")).read_bytes()

    def manifest(self, _repository: str, digest: str) -> Blob:
        """Return a manifest, a blob like any other."""
        return Blob.of("", self.blob("", digest))

    def keep(self, digest: str, data: bytes) -> None:
        """Store a blob."""
        self._write(self.blobs / digest.removeprefix("sha256:"), data)

    def _write(self, file: Path, data: bytes) -> None:
        """Write a file whole or not at all; each pull has a thread of its own, and `clean` finds what is left."""
        half = self.blobs / f"{file.name}.{threading.get_ident()}"
        half.write_bytes(data)
        half.replace(file)

    def read(self) -> dict[Reference, FetchedImage]:
        """Return the image of each name."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        index = self.path / "index.json"
        entries = foreign_json.parse(index.read_bytes())["manifests"] if index.exists() else []
        names = {Reference.parse(one["annotations"][_NAME]): one["digest"] for one in entries}
        return {name: read_image(self, name.with_digest(digest)) for name, digest in names.items()}

    def write(self, names: Mapping[Reference, FetchedImage]) -> None:
        """Make these the names."""
        entries = [{**one.descriptor, "annotations": {_NAME: str(name)}} for name, one in names.items()]
        self._write(self.path / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        self._write(self.path / "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())

    def clean(self, names: Mapping[Reference, FetchedImage]) -> None:
        """Delete what no image has, and what a server that was killed has left."""
        kept = {digest for one in names.values() for digest in one.parts}
        for file in self.blobs.iterdir():
            if f"sha256:{file.name}" not in kept:
                file.unlink()


class FolderBackend:
    """See `criimage.backend.Backend`; an image's facts are read once, when the folder is opened or it is pulled."""

    reports_progress = False

    def __init__(self, settings: Settings) -> None:
        self._layout, self._remote = Layout(settings.path), RemoteRegistry(settings.registry)
        self._names: dict[Reference, FetchedImage] = {}
        self._images: tuple[Image, ...] = ()
        self._pulls = 0

    def load(self) -> None:
        """Read the folder. Blocks."""
        self._save(self._layout.read())

    def _save(self, names: dict[Reference, FetchedImage]) -> None:
        # Blocks, but shortly: one small file and some deletions. So nothing else comes in between.
        self._layout.write(names)
        self._names, by_id = names, {one.id: one for one in names.values()}
        self._images = tuple(
            by_id[key].image(name for name, one in names.items() if one.id == key) for key in sorted(by_id)
        )
        if not self._pulls:
            self._layout.clean(names)

    async def check(self) -> tuple[Problem, ...]:
        """Tell whether the folder is there."""
        there = await asyncio.to_thread(self._layout.blobs.is_dir)
        return () if there else (Problem(f"{self._layout.path} is no image layout", "restore it, or set path"),)

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """A name without a registry means docker.io's."""
        return (qualified(name),)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List the images; the same tuple until a pull or a removal."""
        return self._images if pattern is None else matching(self._images, pattern)

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Find an image and tell what its config says."""
        image = find(self._images, lookup)
        facts = next((one for one in self._names.values() if image and one.id == image.id), None)
        return facts.details(image, verbose=verbose) if image and facts else None

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        """Read the image from the registry, keep its parts, and write its name at the end."""
        present = {digest for one in self._names.values() for digest in one.layers}
        pulled: dict[Reference, FetchedImage] = {}
        self._pulls += 1
        try:
            pulled[reference] = await self._remote.fetch(reference, credentials, present, self._layout.keep)
        finally:
            self._pulls -= 1
            self._save(self._names | pulled)
        return next(image for image in self._images if image.id == pulled[reference].id)

    async def remove(self, lookup: Lookup) -> None:
        """Forget the image with all its names, and delete what nobody else has."""
        image = find(self._images, lookup)
        if image is not None:
            self._save({name: one for name, one in self._names.items() if one.id != image.id})

    async def usage(self) -> Usage:
        """Measure the folder."""
        return await asyncio.to_thread(folder_usage, self._layout.path)


@asynccontextmanager
async def open_folder(settings: Settings) -> AsyncIterator[FolderBackend]:
    """Open the folder and read it."""
    backend = FolderBackend(settings)
    await asyncio.to_thread(backend.load)
    yield backend


plugin = Plugin("folder", contract=1, settings_model=Settings, open=open_folder)
