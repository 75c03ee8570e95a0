"""containerd's content service, on the socket of its CRI plugin: what is being downloaded, and what is here.

The few messages are written by hand, after containerd's api/services/content/v1/content.proto (1.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage import foreign_json, wire
from criimage.channel import CallError
from criimage.errors import OperationFailed
from criimage_cri.records import fields_of, messages, number, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from criimage.channel import Channel

__all__ = ["Blob", "ContentService", "Download", "Manifest", "read_manifest"]

_SERVICE = "/containerd.services.content.v1.Content"
_METADATA = (("containerd-namespace", "k8s.io"),)
_SECONDS = 5.0
_DOCUMENT_LIMIT = 4 * 2**20
_LAYER_LIMIT = 1000
_SIZE_LIMIT = 2**63
_SOURCE_LABEL = "containerd.io/distribution.source."


@dataclass(frozen=True, slots=True)
class Download:
    """A blob that is being written.

    Attributes:
        ref: what it is: `layer-sha256:…`, `manifest-sha256:…`; it tells nothing of an image.
        offset: bytes that have come.
        updated: when the last of them did, nanoseconds since the epoch.
    """

    ref: str
    offset: int
    updated: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that is here.

    Attributes:
        digest: its digest.
        size: bytes.
        created: when it was complete, nanoseconds since the epoch.
        updated: when its labels were written last.
    """

    digest: str
    size: int
    created: int
    updated: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest, or an index of some, names.

    Attributes:
        digest: its own.
        layers: of an image: digest to compressed size; empty for an index.
        children: of an index: the digests of the manifests; empty for an image.
    """

    digest: str
    layers: Mapping[str, int]
    children: frozenset[str] = frozenset()


class ContentService:
    """The content service on one runtime's socket; `exists` tells whether there is one.

    Args:
        channel: open.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def exists(self) -> bool:
        """Tell whether there is such a service.

        Raises:
            CallError: nobody answers.
        """
        try:
            await self.downloads()
        except CallError as error:
            if error.status is Status.UNAVAILABLE:
                raise
            return False
        except OperationFailed:
            return False
        return True

    async def downloads(self) -> dict[str, Download]:
        """Return what is being written, by its ref.

        Raises:
            CallError: as the channel raised it.
            OperationFailed: the answer cannot be decoded.
        """
        answer = await self._channel.unary(f"{_SERVICE}/ListStatuses", b"", _SECONDS, metadata=_METADATA)
        found = {}
        for status in messages(fields_of(answer)[1]):
            fields = fields_of(status)
            ref = text(fields[3])
            found[ref] = Download(ref, number(fields[4]), _moment(messages(fields[2])))
        return found

    async def of_repository(self, host: str, path: str) -> list[Blob]:
        """Return the blobs that were fetched from one repository; raises as `downloads` does.

        Args:
            host: of the registry, without its port: so containerd labels them.
            path: of the repository.
        """
        pattern = path.replace(".", "[.]")
        return [blob async for blob in self._list([f'labels."{_SOURCE_LABEL}{host}"~="(^|,){pattern}(,|$)"'])]

    async def among(self, digests: Iterable[str]) -> list[Blob]:
        """Return those of some blobs that are here; raises as `downloads` does."""
        filters = [f'digest=="{digest}"' for digest in digests]
        return [blob async for blob in self._list(filters)] if filters else []

    async def _list(self, filters: list[str]) -> AsyncIterator[Blob]:
        request = b"".join(wire.text_field(1, one) for one in filters)
        async for answer in self._channel.stream(f"{_SERVICE}/List", request, _SECONDS, metadata=_METADATA):
            for info in messages(fields_of(answer)[1]):
                fields = fields_of(info)
                created, updated = (_moment(messages(fields[field])) for field in (3, 4))
                yield Blob(text(fields[1]), number(fields[2]), created, updated)

    async def manifest(self, blob: Blob) -> Manifest | None:
        """Return what a blob names, if it is a manifest or an index; raises as `downloads` does."""
        if not 0 < blob.size <= _DOCUMENT_LIMIT:
            return None
        request, data = wire.text_field(1, blob.digest), b""
        async for answer in self._channel.stream(f"{_SERVICE}/Read", request, _SECONDS, metadata=_METADATA):
            data += b"".join(messages(fields_of(answer)[2]))
            if not data.lstrip().startswith(b"{") or len(data) > _DOCUMENT_LIMIT:
                return None
        return read_manifest(blob.digest, data)


def read_manifest(digest: str, data: bytes) -> Manifest | None:
    """Return what a document names, or None if it is no manifest and no index."""
    try:
        document = foreign_json.parse_object(data)
    except ValueError:
        return None
    layers, children = document.get("layers"), document.get("manifests")
    if isinstance(layers, list):
        return Manifest(digest, dict(_descriptors(layers)))
    if isinstance(children, list):
        return Manifest(digest, {}, frozenset(child for child, _ in _descriptors(children)))
    return None


def _descriptors(entries: list[object]) -> Iterable[tuple[str, int]]:
    for entry in entries[:_LAYER_LIMIT]:
        if isinstance(entry, dict):
            digest, size = entry.get("digest"), entry.get("size")
            if isinstance(digest, str) and type(size) is int and 0 <= size < _SIZE_LIMIT:
                yield digest, size


def _moment(timestamps: list[bytes]) -> int:
    fields = fields_of(b"".join(timestamps))
    return number(fields[1]) * 10**9 + number(fields[2])
