"""What the runtime says about images, as values."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from criimage import wire
from criimage.backend import FilesystemUsage, Image, ImageDetails, Usage, User
from criimage.errors import InvalidRequest, OperationFailed
from criimage.reference import DEFAULT_DOMAIN, ImageID, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from criimage_cri.runtimes import Runtime

__all__ = ["Fields", "details_of", "fields_of", "map_of", "messages", "number", "text", "usage_of"]

_ELEMENTS_LIMIT = 1_000_000
_ID, _TAGS, _DIGESTS, _SIZE, _UID, _USERNAME, _SPEC, _PINNED = range(1, 9)

Fields = dict[int, list[wire.Value]]


def fields_of(answer: bytes) -> Fields:
    """Return the values of an answer by field number, in order.

    Raises:
        OperationFailed: the answer cannot be decoded.
    """
    found: Fields = defaultdict(list)
    try:
        for number, _, value in wire.fields(answer, _ELEMENTS_LIMIT):
            found[number].append(value)
    except InvalidRequest:
        raise OperationFailed("the container runtime sent an answer that cannot be decoded") from None
    return found


def messages(values: Iterable[wire.Value]) -> list[bytes]:
    """Return what are messages or bytes of a field's values."""
    return [value for value in values if isinstance(value, bytes)]


def number(values: Iterable[wire.Value]) -> int:
    """Return the last of a number's values; 0 where there is none."""
    return next((value for value in reversed(list(values)) if isinstance(value, int)), 0)


def texts(values: Iterable[wire.Value]) -> Iterator[str]:
    """Yield what are texts of a field's values; bytes that are not UTF-8 are shown as U+FFFD."""
    for value in messages(values):
        yield value.decode("utf-8", "replace")


def text(values: Iterable[wire.Value]) -> str:
    """Return the last of a text's values; empty where there is none."""
    return next(reversed(list(texts(values))), "")


def map_of(values: Iterable[wire.Value]) -> dict[str, str]:
    """Return a map of texts."""
    entries = (fields_of(value) for value in messages(values))
    return {text(entry[1]): text(entry[2]) for entry in entries}


def details_of(data: bytes, runtime: Runtime) -> ImageDetails | None:
    """Read an Image; None where it has no ID that could be one.

    Args:
        data: the message.
        runtime: whose it is: the Docker engine's names lack their registry.

    Raises:
        OperationFailed: it cannot be decoded.
    """
    fields = fields_of(data)
    try:
        identity = ImageID.parse(text(fields[_ID]))
    except ValueError:
        return None
    domain = DEFAULT_DOMAIN if runtime.lists_short_names else None
    image = Image(
        id=identity,
        tags=tuple(sorted({name for name in _names(fields[_TAGS], domain) if name.tag})),
        digests=tuple(dict.fromkeys(name for name in _names(fields[_DIGESTS], domain) if name.digest)),
        size=max(1, number(fields[_SIZE])),
        pinned=number(fields[_PINNED]) != 0,
    )
    spec = fields_of(b"".join(messages(fields[_SPEC])))
    return ImageDetails(image, _user(fields), map_of(spec[2]))


def _names(values: Iterable[wire.Value], domain: str | None) -> Iterator[Reference]:
    for name in texts(values):
        try:
            yield Reference.parse(name, domain)
        except InvalidRequest:
            continue  # `<none>`, or CRI-O's `127.0.0.1@sha256:…` for an image that lost its name


def _user(fields: Mapping[int, list[wire.Value]]) -> User | None:
    if fields[_UID]:
        uid = number(fields_of(b"".join(messages(fields[_UID])))[1])
        return User(uid=uid - 2**64 if uid >= 2**63 else uid)
    name = text(fields[_USERNAME])
    return User(name=name) if name else None


def usage_of(answer: bytes) -> Usage:
    """Read an ImageFsInfoResponse; where a runtime leaves the list for containers empty, it is the images'.

    Raises:
        OperationFailed: it cannot be decoded, or names no file system.
    """
    fields = fields_of(answer)
    images = tuple(_filesystem(data) for data in messages(fields[1]))
    if not images:
        raise OperationFailed("the container runtime names no file system of images")
    containers = tuple(_filesystem(data) for data in messages(fields[2]))
    return Usage(images, containers or images)


def _filesystem(data: bytes) -> FilesystemUsage:
    fields = fields_of(data)
    place = fields_of(b"".join(messages(fields[2])))
    used = fields_of(b"".join(messages(fields[3])))
    inodes = number(fields_of(b"".join(messages(fields[4])))[1]) if fields[4] else None
    return FilesystemUsage(text(place[1]), number(used[1]), inodes, number(fields[1]))
