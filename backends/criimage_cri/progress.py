"""Progress of pulls behind containerd, from the downloads in its content store.

One task looks every 300 ms, as containerd itself does, while any pull runs. A pull's layers are known once its manifest
is; until then, and where a remote snapshotter fetches layers out of sight, there is only the phase. What containerd
does by itself, unpacking above all, is told as activity: only a registry's silence may cut a pull off.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from criimage.backend import Phase, PullProgress
from criimage.channel import CallError
from criimage.errors import OperationFailed
from criimage.lasting import lasting
from criimage_cri.attribution import Known, attribute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from criimage.backend import ProgressReporter
    from criimage.reference import Reference
    from criimage_cri.content import Blob, ContentService, Download, Manifest

__all__ = ["ProgressWatch"]

_log = structlog.get_logger(__name__)

INTERVAL = 0.3
_MANIFESTS_KEPT = 10_000
_PORT = re.compile(r":[0-9]+\Z")


@dataclass(slots=True, eq=False)
class _Pull:
    """A pull under way.

    Attributes:
        reference: what is pulled.
        report: takes progress.
        began: nanoseconds since the epoch.
        progress: what was reported last.
        manifest: once it is known.
        here: layers that are complete: digest to whether they were here before.
    """

    reference: Reference
    report: ProgressReporter
    progress: PullProgress
    began: int = field(default_factory=time.time_ns)
    manifest: Manifest | None = None
    here: dict[str, bool] = field(default_factory=dict)

    def outstanding(self) -> set[str]:
        return set() if self.manifest is None else self.manifest.layers.keys() - self.here.keys()

    def tell(self, progress: PullProgress) -> None:
        if progress != self.progress:
            self.progress = progress
            self.report(progress)

    def goes_on(self) -> PullProgress:
        return replace(self.progress, activity=self.progress.activity + 1)


class ProgressWatch:
    """Follows the downloads of containerd while there are pulls.

    Args:
        content: its content service.
    """

    def __init__(self, content: ContentService) -> None:
        self._content = content
        self._pulls: list[_Pull] = []
        self._wanted = asyncio.Event()
        self._manifests: dict[str, Manifest | None] = {}
        self._before: dict[str, Download] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after pulls until the block is left."""
        async with lasting(self._look_again_and_again, "follow the downloads of containerd"):
            yield

    @asynccontextmanager
    async def of(self, reference: Reference, report: ProgressReporter, source: str) -> AsyncIterator[None]:
        """Report the progress of one pull while the block runs.

        Args:
            reference: what is pulled.
            report: takes progress.
            source: where the credentials come from.
        """
        pull = _Pull(reference, report, PullProgress(credential_source=source))
        report(pull.progress)
        self._pulls.append(pull)
        self._wanted.set()
        try:
            yield
        finally:
            self._pulls.remove(pull)
            if not self._pulls:
                self._wanted.clear()
        if pull.manifest is not None and pull.outstanding():
            # A moment may have passed since the last look; what was pulled is complete now.
            pull.tell(_figures(pull, {}, ()))

    async def _look_again_and_again(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(INTERVAL)
            if self._pulls:
                await self.look()

    async def look(self) -> None:
        """Look once, and report what has changed."""
        pulls = list(self._pulls)
        try:
            downloads = await self._content.downloads()
            await self._attribute(pulls)
            layers = {digest for pull in pulls for digest in pull.outstanding() if _ref(digest) not in downloads}
            here = {blob.digest: blob for blob in await self._content.among(sorted(layers))}
        except (CallError, OperationFailed) as error:
            _log.debug("containerd does not tell of its downloads", error=str(error))
            for pull in pulls:
                pull.tell(replace(pull.progress, phase=Phase.WAITING_FOR_STORE))
            return
        self._report(pulls, downloads, here)
        self._before = downloads

    def _report(self, pulls: list[_Pull], downloads: dict[str, Download], here: dict[str, Blob]) -> None:
        attributed = {_ref(digest) for pull in pulls if pull.manifest for digest in pull.manifest.layers}
        others = {ref: download for ref, download in downloads.items() if ref not in attributed}
        others_move = any(self._before.get(ref) != download for ref, download in others.items())
        for pull in pulls:
            if pull not in self._pulls:
                continue  # over meanwhile
            if pull.manifest is not None:
                for digest in pull.outstanding() & here.keys():
                    pull.here[digest] = here[digest].created < pull.began
                pull.tell(_progress(pull, downloads))
            elif others_move:
                # Somebody's bytes come, and they may be this one's.
                pull.tell(replace(pull.goes_on(), phase=Phase.RESOLVING))
            else:
                pull.tell(replace(pull.progress, phase=Phase.RESOLVING))

    async def _attribute(self, pulls: list[_Pull]) -> None:
        repositories: dict[tuple[str, str], list[_Pull]] = {}
        for pull in pulls:
            if pull.manifest is None:
                host = _PORT.sub("", pull.reference.domain).strip("[]")
                repositories.setdefault((host, pull.reference.path), []).append(pull)
        taken = {pull.manifest.digest for pull in pulls if pull.manifest is not None}
        for (host, path), waiting in repositories.items():
            blobs = await self._content.of_repository(host, path)
            known = [one for one in await self._known(blobs) if one.manifest.digest not in taken]
            found = attribute({pull: (pull.reference, pull.began) for pull in waiting}, known)
            for pull in waiting:
                pull.manifest = found.get(pull)

    async def _known(self, blobs: Iterable[Blob]) -> list[Known]:
        found: list[tuple[Blob, Manifest]] = []
        for blob in blobs:
            if blob.digest not in self._manifests:
                if len(self._manifests) >= _MANIFESTS_KEPT:
                    self._manifests.clear()
                self._manifests[blob.digest] = await self._content.manifest(blob)
            manifest = self._manifests[blob.digest]
            if manifest is not None:
                found.append((blob, manifest))
        return [
            Known(
                manifest,
                blob.updated,
                frozenset({manifest.digest, *(one.digest for _, one in found if manifest.digest in one.children)}),
            )
            for blob, manifest in found
            if not manifest.children
        ]


def _ref(digest: str) -> str:
    return f"layer-{digest}"


def _progress(pull: _Pull, downloads: dict[str, Download]) -> PullProgress:
    outstanding = pull.outstanding()
    coming = {digest: downloads[_ref(digest)].offset for digest in outstanding if _ref(digest) in downloads}
    told = _figures(pull, coming, outstanding)
    # Nothing of it comes: containerd unpacks, or something out of sight fetches what is missing.
    return told if coming else replace(told, activity=pull.progress.activity + 1)


def _figures(pull: _Pull, coming: dict[str, int], outstanding: Iterable[str]) -> PullProgress:
    """Return the figures, given the bytes of layers that are not complete."""
    layers = {} if pull.manifest is None else pull.manifest.layers
    reused = {digest for digest, before in pull.here.items() if before}
    fetched = {digest: size for digest, size in layers.items() if digest not in reused}
    missing = set(outstanding)
    return replace(
        pull.progress,
        phase=Phase.DOWNLOADING if missing else Phase.UNPACKING,
        bytes_done=sum(coming.get(digest, 0) if digest in missing else size for digest, size in fetched.items()),
        bytes_total=sum(fetched.values()),
        layers_done=len(fetched.keys() - missing),
        layers_total=len(fetched),
        layers_reused=len(reused),
    )
