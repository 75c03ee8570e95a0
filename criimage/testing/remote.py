"""Images of a real registry for the backend in memory: what it needs of them is read, checked and thrown away."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import http
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from criimage import foreign_json
from criimage.backend import Image, ImageDetails, User
from criimage.errors import (
    AccessDenied,
    ContentInvalid,
    OperationFailed,
    PlatformMissing,
    PullError,
    RateLimited,
    RegistryUnavailable,
    RemoteImageMissing,
    StorageFull,
)
from criimage.reference import ImageID, Reference
from criimage.testing.oci import OCI_INDEX, OCI_MANIFEST, Blob, machine_architecture
from criimage.testing.registry_client import RegistryClient, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from criimage.credentials import Credentials

__all__ = ["FetchedImage", "RemoteRegistry", "Source", "read_image"]

_UNAVAILABLE = frozenset(
    {http.HTTPStatus.BAD_GATEWAY, http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.GATEWAY_TIMEOUT}
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SIZE_LIMIT = 2**63 - 1
_DENIED = frozenset({http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN})


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """An image as it came from a registry, without its files.

    Attributes:
        id: the digest of its config.
        descriptor: of what the name meant, a manifest or an index, as an image layout's index has it.
        digests: of what the name meant, then of the instance where that was an index.
        size: bytes of config and layers.
        user: whom it starts as.
        annotations: of its manifest.
        config: the whole config.
        layers: the digests of its layers.
    """

    id: ImageID
    descriptor: Mapping[str, Any] = field(hash=False)
    digests: tuple[str, ...]
    size: int
    user: User | None
    annotations: Mapping[str, str] = field(hash=False)
    config: Mapping[str, Any] = field(hash=False)
    layers: frozenset[str]

    @property
    def parts(self) -> frozenset[str]:
        """The digests of all that it is made of."""
        return self.layers | {*self.digests, str(self.id)}

    def image(self, names: Iterable[Reference]) -> Image:
        """Return it as a list shows it.

        Args:
            names: each tag and digest that it has been pulled by.
        """
        named = tuple(names)
        tags = sorted(name for name in named if name.tag and not name.digest)
        digests = dict.fromkeys(name.with_digest(digest) for name in named for digest in self.digests)
        return Image(self.id, tuple(tags), tuple(digests), self.size)

    def details(self, image: Image, *, verbose: bool) -> ImageDetails:
        """Return it as a status shows it, with its config as `info` where that is wanted."""
        info = {"info": foreign_json.dump({"imageSpec": dict(self.config)})} if verbose else {}
        return ImageDetails(image, self.user, self.annotations, info)


class Source(Protocol):
    """Where manifests and blobs are read from: a registry, or a folder that has the same. Its calls block."""

    def manifest(self, repository: str, name: str) -> Blob:
        """Return the manifest or index of a tag or digest."""
        ...

    def blob(self, repository: str, digest: str) -> bytes:
        """Return a config or layer."""
        ...


class _NotKept(Exception):
    """What came could not be stored: no fault of the registry's."""


class RemoteRegistry:
    """A registry that is spoken to in plain HTTP.

    Args:
        address: `HOST:PORT`; names of that host at other ports are pulled from those.
    """

    def __init__(self, address: str) -> None:
        self._host = address.rpartition(":")[0] or address

    async def fetch(
        self,
        reference: Reference,
        credentials: Credentials | None,
        present: Collection[str],
        keep: Callable[[str, bytes], None] = lambda _digest, _data: None,
    ) -> FetchedImage:
        """Read an image; a cancel closes the connection, and nothing is kept any more when it leaves.

        Args:
            reference: what to read.
            credentials: sent where the registry asks for them.
            present: digests of layers that need not be read again.
            keep: is given the digest and the bytes of each part that was read and checked, in a thread.

        Raises:
            PullError: one of its kinds.
        """
        if reference.domain.rpartition(":")[0] != self._host:
            raise RegistryUnavailable(f"no such registry: {reference}")
        user, password = (credentials.username, credentials.password) if credentials else ("", "")
        client = RegistryClient(reference.domain, user, password)

        def kept(digest: str, data: bytes) -> None:
            try:
                keep(digest, data)
            except OSError as error:
                raise _NotKept from error

        reading = asyncio.create_task(asyncio.to_thread(read_image, client, reference, present, kept))
        try:
            return await asyncio.shield(reading)
        except RegistryError as error:
            raise _failure(error, reference) from error
        except _NotKept as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
            kind = StorageFull if full else OperationFailed
            raise kind(f"a part cannot be stored: {reference}") from error
        except (OSError, http.client.HTTPException) as error:
            raise RegistryUnavailable(f"the registry cannot be reached: {reference}") from error
        except asyncio.CancelledError:
            # The thread ends with its connection; until then the next one is shut as well.
            while not reading.done():
                client.abort()
                await asyncio.wait([reading], timeout=0.02)
            if not reading.cancelled():
                reading.exception()
            raise


def _failure(error: RegistryError, reference: Reference) -> PullError | OperationFailed:
    if error.status in _DENIED:
        return AccessDenied(f"unauthorized: {reference}")
    if error.status == http.HTTPStatus.NOT_FOUND:
        return RemoteImageMissing(f"manifest unknown: {reference}")
    if error.status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(f"toomanyrequests: {reference}")
    if error.status in _UNAVAILABLE:
        return RegistryUnavailable(f"the registry answers {error.status}: {reference}")
    return PullError(f"the registry answers {error.status}: {reference}")


def read_image(
    client: Source,
    reference: Reference,
    present: Collection[str] | None = None,
    keep: Callable[[str, bytes], None] = lambda _digest, _data: None,
) -> FetchedImage:
    """Read an image and check that each part is what its digest promises. Blocks.

    Args:
        client: where to read.
        reference: what to read; its registry is not looked at.
        present: digests of layers that need not be read; None: no layer is read.
        keep: is given each part that was checked.

    Raises:
        ContentInvalid: something is not what it should be.
        PlatformMissing: there is nothing for this machine.
    """
    repository = reference.path
    top = client.manifest(repository, reference.digest or reference.tag or "latest")
    _same(top.digest, reference.digest, reference)
    manifest, instance = _instance(client, repository, top, reference)
    for one in {top.digest: top, instance.digest: instance}.values():
        keep(one.digest, one.data)
    try:
        config_digest = manifest["config"]["digest"]
        layers = [one["digest"] for one in manifest["layers"]]
        sizes = [int(one["size"]) for one in (manifest["config"], *manifest["layers"])]
        annotations = {str(key): str(value) for key, value in manifest.get("annotations", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ContentInvalid(f"the manifest is not one: {reference}") from None
    if not all(map(_is_digest, (config_digest, *layers))) or sum(sizes) > _SIZE_LIMIT:
        raise ContentInvalid(f"the manifest names no digests, or no sizes: {reference}")
    config_bytes = client.blob(repository, config_digest)
    _same(_digest(config_bytes), config_digest, reference)
    config = _parsed(config_bytes, reference)
    keep(config_digest, config_bytes)
    diff_ids = _inside(config, "rootfs", "diff_ids")
    if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
        raise ContentInvalid(f"the config has other layers than the manifest: {reference}")
    for digest, diff_id in dict(zip(layers, diff_ids, strict=True)).items():
        if present is not None and digest not in present:
            data = client.blob(repository, digest)
            _check_layer(data, digest, diff_id, reference)
            keep(digest, data)
    digests = tuple(dict.fromkeys((top.digest, instance.digest)))
    user = _user(str(_inside(config, "config", "User") or ""))
    image_id = ImageID.parse(config_digest)
    kind = _parsed(top.data, reference).get("mediaType") or (OCI_MANIFEST if top == instance else OCI_INDEX)
    descriptor = Blob.of(str(kind), top.data).descriptor
    size = max(1, sum(sizes))
    return FetchedImage(image_id, descriptor, digests, size, user, annotations, config, frozenset(layers))


def _instance(client: Source, repository: str, top: Blob, reference: Reference) -> tuple[dict[str, Any], Blob]:
    """The manifest for this machine, as what it says and as bytes."""
    found = _parsed(top.data, reference)
    entries = found.get("manifests")
    if entries is None:
        return found, top
    for entry in entries if isinstance(entries, list) else ():
        if _inside(entry, "platform", "architecture") == machine_architecture():
            wanted = str(_inside(entry, "digest"))
            if not _is_digest(wanted):
                raise ContentInvalid(f"the index is not one: {reference}")
            instance = client.manifest(repository, wanted)
            _same(instance.digest, wanted, reference)
            return _parsed(instance.data, reference), instance
    raise PlatformMissing(f"no image for this machine: {reference}")


def _check_layer(data: bytes, digest: str, diff_id: object, reference: Reference) -> None:
    _same(_digest(data), digest, reference)
    try:
        # 47 takes a gzip header and a zlib one.
        unpacked = zlib.decompress(data, 47)
    except zlib.error:
        raise ContentInvalid(f"a layer cannot be unpacked: {reference}") from None
    _same(_digest(unpacked), str(diff_id), reference)


def _same(found: str, wanted: str | None, reference: Reference) -> None:
    if wanted is not None and found != wanted:
        raise ContentInvalid(f"the registry sent something else than the digest promises: {reference}")


def _parsed(data: bytes, reference: Reference) -> dict[str, Any]:
    try:
        return foreign_json.parse_object(data)
    except ValueError as error:
        raise ContentInvalid(f"what the registry sent cannot be read, {error}: {reference}") from None


def _inside(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _user(text: str) -> User | None:
    name = text.partition(":")[0]
    if not name:
        return None
    return User(uid=int(name)) if name.isdecimal() and name.isascii() and len(name) < 19 else User(name=name)


def _is_digest(value: object) -> bool:
    # It becomes a part of a URL or of a file's name.
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
