"""The image service: from the bytes of a request through the backend to the bytes of an answer."""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING

from criimage import wire
from criimage.reference import Lookup, Name, Pattern
from criimage.server.calls.method import Method, server_stream, unary
from criimage.server.services import replies, requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Backend, Image
    from criimage.pins import Pins
    from criimage.pulls.running import Pulled
    from criimage.pulls.sharing import Pulls
    from criimage.removals import Removals

__all__ = ["ImageRef", "ImageService"]

_SHORT = 512
"""Bytes of a status request up to which what it asks for is kept; few names are longer."""


class ImageRef(enum.Enum):
    """What a pull answers with, as the setting `image_ref` says."""

    AUTO = "auto"
    ID = "id"
    REPO_DIGEST = "repo-digest"


class ImageService:
    """CRI's ImageService in both of its versions, on one backend.

    Args:
        backend: the store.
        pulls: pulls into it.
        removals: removals from it.
        pins: which images the operator wants kept.
        image_ref: what PullImage answers.
    """

    def __init__(self, backend: Backend, pulls: Pulls, removals: Removals, pins: Pins, image_ref: ImageRef) -> None:
        self._backend = backend
        self._pulls = pulls
        self._removals = removals
        self.lists = replies.ListTally()
        self._replies = replies.ImageReplies(pins, self.lists)
        self._usage = replies.UsageReplies()
        self._image_ref = image_ref

    def methods(self) -> list[Method]:
        """Return the methods of `runtime.v1` and `runtime.v1alpha2`; their messages are the same on the wire."""
        found = []
        for version in ("v1", "v1alpha2"):
            service = f"/runtime.{version}.ImageService"
            pull = self._pull_v1 if version == "v1" else self._pull_v1alpha2
            fs_info = self._fs_info_v1 if version == "v1" else self._fs_info_v1alpha2
            found += [
                unary(f"{service}/ListImages", self._list, at_once=True),
                unary(f"{service}/ImageStatus", self._status, at_once=True),
                unary(f"{service}/PullImage", pull),
                unary(f"{service}/RemoveImage", self._remove),
                unary(f"{service}/ImageFsInfo", fs_info, at_once=True),
            ]
        return [*found, server_stream("/runtime.v1.ImageService/StreamImages", self._stream)]

    def repin(self, pins: Pins) -> None:
        """Use other pins from now on."""
        self._replies = replies.ImageReplies(pins, self.lists)

    async def _list(self, request: bytes) -> bytes:
        text = requests.read_filter(request)
        if not text:
            return self._replies.all(await self._backend.images())
        return self._replies.some(await self._backend.images(Pattern.parse(text)))

    async def _stream(self, request: bytes) -> AsyncIterator[bytes]:
        text = requests.read_filter(request)
        images = await self._backend.images(Pattern.parse(text) if text else None)
        for batch in self._replies.batches(images):
            yield batch

    async def _status(self, request: bytes) -> bytes:
        lookup, verbose = _asked(request) if len(request) <= _SHORT else _asked.__wrapped__(request)
        details = await self._backend.status(lookup, verbose=verbose)
        return self._replies.status(details)

    async def _pull_v1(self, request: bytes) -> bytes:
        # auto: v1 demands Image.id since 1.36.
        return await self._pull(request, repo_digest=self._image_ref is ImageRef.REPO_DIGEST)

    async def _pull_v1alpha2(self, request: bytes) -> bytes:
        # auto: of an age when CRI-O and dockershim answered with a digest (cri-o P11, dockershim P8).
        return await self._pull(request, repo_digest=self._image_ref is not ImageRef.ID)

    async def _pull(self, request: bytes, *, repo_digest: bool) -> bytes:
        asked = requests.read_pull(request)
        pulled = await self._pulls.pull(Name.parse(asked.image), asked.credentials, asked.context)
        return wire.text_field(1, _repo_digest(pulled) if repo_digest else str(pulled.image.id))

    async def _remove(self, request: bytes) -> bytes:
        # A client whose deadline passes does not stop a removal half-way (crictl gives up after 2 s).
        await self._removals.remove(Lookup.parse(requests.read_remove(request).image))
        return b""

    async def _fs_info_v1(self, request: bytes) -> bytes:
        return await self._fs_info(request, containers=True)

    async def _fs_info_v1alpha2(self, request: bytes) -> bytes:
        return await self._fs_info(request, containers=False)

    async def _fs_info(self, request: bytes, *, containers: bool) -> bytes:
        requests.read_empty(request)
        return self._usage.of(await self._backend.usage(), containers=containers)


@functools.lru_cache(maxsize=1024)
def _asked(request: bytes) -> tuple[Lookup, bool]:
    """Read an ImageStatusRequest; a kubelet asks for the same images all the time, and reading takes a fifth of it."""
    asked = requests.read_status(request)
    return Lookup.parse(asked.image), asked.verbose


def _repo_digest(pulled: Pulled) -> str:
    """Return the digest of the asked repository, else the first one, else the ID."""
    image: Image = pulled.image
    same = [digest for digest in image.digests if digest.repository == pulled.reference.repository]
    return str(next(iter((*same, *image.digests)), image.id))
