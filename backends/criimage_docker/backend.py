"""The backend: each call of the contract, put together from the parts."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import anyio.to_thread

from criimage.backend import ImageDetails, Problem
from criimage.catalogue import qualified
from criimage.errors import BackendUnavailable, InvalidRequest, OperationFailed
from criimage.lasting import lasting
from criimage_docker.engine.address import find_address
from criimage_docker.engine.answers import NOT_FOUND, Refusal
from criimage_docker.engine.api import Engine
from criimage_docker.engine.names import familiar_filter
from criimage_docker.engine.words import refused
from criimage_docker.pulling.puller import Puller
from criimage_docker.removal import Remover
from criimage_docker.view.facts import FactsKeeper
from criimage_docker.view.finder import Finder
from criimage_docker.view.following import follow
from criimage_docker.view.info import verbose_info
from criimage_docker.view.usage import UsageMeter
from criimage_docker.view.view import View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Image, ProgressReporter, PullContext, Usage
    from criimage.credentials import Credentials
    from criimage.reference import Lookup, Name, Pattern, Reference
    from criimage_docker.settings import Settings
    from criimage_docker.view.snapshot import Snapshot

__all__ = ["DockerBackend", "open_backend"]

_FILTERS_KEPT = 100
"""Answers to filters that are kept until the next listing."""


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[DockerBackend]:
    """Open the backend; the engine itself may be down.

    Raises:
        ConfigurationError: the engine's address or certificates cannot be used.
    """
    address = await anyio.to_thread.run_sync(find_address, settings, dict(os.environ))
    engine = Engine(address, settings.request_timeout)
    view = View(engine, enabled=settings.cache, ttl=settings.cache_ttl)
    meter = UsageMeter(engine, view, settings.mountpoint)
    backend = DockerBackend(engine, view, meter)
    try:
        async with lasting(backend.follow, "events of the engine") if settings.cache else nullcontext():
            yield backend
    finally:
        await backend.finish()
        await meter.close()
        await view.close()
        await engine.close()


class DockerBackend:
    """See `criimage.backend.Backend`."""

    def __init__(self, engine: Engine, view: View, meter: UsageMeter) -> None:
        self._engine = engine
        self._view = view
        self._meter = meter
        self._facts = FactsKeeper(view)
        self._finder = Finder(engine, view, self._facts)
        self._puller = Puller(engine, view, self._finder, self._facts)
        self._remover = Remover(engine, view, self._finder)
        self._filtered: tuple[Snapshot, dict[str, tuple[Image, ...]]] | None = None

    async def follow(self) -> None:
        """Follow the engine's events until cancelled."""
        await follow(self._engine, self._view, self._finder)

    async def finish(self) -> None:
        """Stop what goes on by itself, and wait for what must end: names that a stopped removal gives back."""
        await self._puller.close()
        await self._remover.finish()

    @property
    def reports_progress(self) -> bool:
        """Every message of the engine is looked at."""
        return True

    async def check(self) -> tuple[Problem, ...]:
        """Ask the engine for a sign of life."""
        try:
            await self._engine.ping()
        except BackendUnavailable as error:
            return (Problem(error.text, "start the engine, or set host to where it listens"),)
        return ()

    async def limits(self) -> tuple[Problem, ...]:
        """Tell what this engine cannot be brought to do; nothing where it does not answer."""
        try:
            return (await self._engine.features()).limits
        except (BackendUnavailable, Refusal):
            return ()

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Return the one reference that a name means; a short name is docker.io's (P6)."""
        return (qualified(name),)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List the images, newest first (L5).

        With a pattern the engine decides which images a reference matches, globs included (L2, L6); IDs and prefixes of
        IDs match as well. Each match comes with all its names: the engine would leave out those that do not match (L7).

        Raises:
            InvalidRequest: the engine cannot read the pattern.
        """
        snapshot = await self._view.snapshot()
        if pattern is None:
            return snapshot.images
        if pattern.lookup is not None and _means_one(pattern.lookup):
            found = await self._finder.find(pattern.lookup)
            return () if found is None else (found.image,)
        if self._filtered is None or self._filtered[0] is not snapshot:
            self._filtered = (snapshot, {})
        kept = self._filtered[1]
        matches = kept.get(pattern.text)
        if matches is None:
            matches = await self._matches(snapshot, pattern)
            if len(kept) < _FILTERS_KEPT:
                kept[pattern.text] = matches
        return matches

    async def _matches(self, snapshot: Snapshot, pattern: Pattern) -> tuple[Image, ...]:
        lookup = pattern.lookup
        wanted: set[str] = set()
        if lookup is not None and lookup.id_prefix is not None:
            found = snapshot.with_prefix(lookup.id_prefix)
            wanted |= set() if found is None else {found.id.hex}
        text = familiar_filter(pattern.text, None if lookup is None else lookup.name)
        try:
            listed = await self._engine.images(text)
        except Refusal as refusal:
            if "syntax error in pattern" in refusal.message:
                raise InvalidRequest(f"the filter is no valid pattern: {pattern.text}") from refusal
            raise refused(refusal, "list its images") from refusal
        matched = {str(one.get("Id")).removeprefix("sha256:") for one in listed}
        if matched - {image.id.hex for image in snapshot.images}:
            # New without an event.
            self._view.changed()
            snapshot = await self._view.snapshot()
        # The containerd store lets `*` match what has no name; elsewhere no filter does (L8).
        wanted |= {image.id.hex for image in snapshot.images if image.id.hex in matched and _named(image)}
        return tuple(image for image in snapshot.images if image.id.hex in wanted)

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Return one image, read as the engine reads the text: full ID, name, prefix of an ID.

        "Absent" is always the engine's own answer; "present" too, where an image can go without an event.
        """
        generation = self._view.generation
        found = await self._finder.find(lookup)
        if found is None:
            return None
        image, inspected = found.image, found.inspected
        if inspected is None and not verbose:
            facts = self._facts.of(image.id)
            if facts is not None:
                return ImageDetails(image, facts.user)
        try:
            inspected = inspected or await self._engine.inspect(image.id)
            history = await self._engine.history(image.id) if verbose else []
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise refused(refusal, "inspect the image") from refusal
            # Removed since it was listed; the name may be another image's by now.
            self._view.changed()
            again = await self._finder.find(lookup, ask=True)
            return None if again is None else ImageDetails(again.image)
        facts = self._facts.learn(image.id, inspected, generation)
        try:
            info = verbose_info(inspected, history) if verbose else {}
        except ValueError as error:
            raise OperationFailed(f"what the Docker engine tells about the image cannot be shown: {error}") from error
        return ImageDetails(image, facts.user, info=info)

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        context: PullContext,
        report: ProgressReporter,
    ) -> Image:
        """Have the engine pull an image."""
        return await self._puller.pull(reference, credentials, report)

    async def remove(self, lookup: Lookup) -> None:
        """Remove an image with all its names."""
        await self._remover.remove(lookup)

    async def usage(self) -> Usage:
        """Return what the engine's images take; for containers it has no other place."""
        return await self._meter.usage()


def _means_one(lookup: Lookup) -> bool:
    """Tell whether a filter is an ID, a beginning of one, or a digest, which are answered as a status answers them.

    The containerd store of 26.1 finds nothing by digest.
    """
    return lookup.name is None or lookup.name.digest is not None


def _named(image: Image) -> bool:
    return bool(image.tags or image.digests)
