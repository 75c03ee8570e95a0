"""What the requests of the image service ask for, as values."""

from __future__ import annotations

from dataclasses import dataclass

from criimage import wire
from criimage.backend import PullContext
from criimage.credentials import Credentials
from criimage.errors import InvalidRequest

__all__ = [
    "ImageRequest",
    "PullRequest",
    "read_empty",
    "read_filter",
    "read_pull",
    "read_remove",
    "read_status",
    "read_text",
    "read_verbose",
]


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request about one image.

    Attributes:
        image: the text of its ImageSpec, possibly empty.
        verbose: as in ImageStatusRequest.
    """

    image: str
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A PullImageRequest.

    Attributes:
        image: the text of its ImageSpec, possibly empty.
        credentials: what it carries, or None.
        context: who wants it.
    """

    image: str
    credentials: Credentials | None
    context: PullContext


def _message(value: wire.Value) -> bytes:
    if isinstance(value, int):
        raise InvalidRequest("the request cannot be decoded")
    return value


def _flag(data: bytes, wanted: int) -> bool:
    flag = False
    for number, wire_type, value in wire.fields(data):
        if number == wanted:
            if wire_type != wire.VARINT:
                raise InvalidRequest("the request cannot be decoded")
            flag = value != 0
    return flag


def _submessages(data: bytes, *wanted: int) -> list[bytes | None]:
    """Return the submessages that stand in these fields; one that comes in pieces is merged, as protobuf demands."""
    pieces: dict[int, list[bytes]] = {number: [] for number in wanted}
    for number, _, value in wire.fields(data):
        if number in pieces:
            pieces[number].append(_message(value))
    return [b"".join(found) if found else None for found in pieces.values()]


def _spec_text(spec: bytes) -> str:
    """Return field 1 of an ImageSpec."""
    (image,) = _texts(spec, 1)
    return image


def _texts(data: bytes, *wanted: int) -> list[str]:
    """Return the texts that stand in these fields, empty where there is none; the last counts, as protobuf demands."""
    found = dict.fromkeys(wanted, "")
    for number, _, value in wire.fields(data):
        if number in found:
            found[number] = wire.text(value)
    return list(found.values())


def _map(data: bytes, wanted: int) -> dict[str, str]:
    """Return the map of texts that stands in a field."""
    entries = (_texts(_message(value), 1, 2) for number, _, value in wire.fields(data) if number == wanted)
    return dict(entries)


def _required(spec: bytes | None) -> bytes:
    if spec is None:
        raise InvalidRequest("no image specified")
    return spec


def read_filter(data: bytes) -> str:
    """Return the text that ListImages or StreamImages filters by; empty for all (cri-protocol 3.1)."""
    (image_filter,) = _submessages(data, 1)
    (spec,) = _submessages(image_filter or b"", 1)
    return _spec_text(spec or b"")


def read_status(data: bytes) -> ImageRequest:
    """Read an ImageStatusRequest.

    Raises:
        InvalidRequest: undecodable, or without ImageSpec.
    """
    (spec,) = _submessages(data, 1)
    return ImageRequest(_spec_text(_required(spec)), _flag(data, 2))


def read_remove(data: bytes) -> ImageRequest:
    """Read a RemoveImageRequest; raises as `read_status` does."""
    (spec,) = _submessages(data, 1)
    return ImageRequest(_spec_text(_required(spec)))


def read_pull(data: bytes) -> PullRequest:
    """Read a PullImageRequest.

    The sandbox config is looked at for its names only and kept as it came, so that what we do not know passes through.

    Raises:
        InvalidRequest: undecodable, without ImageSpec, or with credentials that cannot be decoded.
    """
    spec_bytes, auth, sandbox = _submessages(data, 1, 2, 3)
    spec = _required(spec_bytes)
    image, runtime_handler = _texts(spec, 1, 19)
    (metadata,) = _submessages(sandbox or b"", 1)
    pod, namespace = _texts(metadata or b"", 1, 3)
    context = PullContext(
        namespace=namespace,
        pod=pod,
        annotations=_map(spec, 2),
        runtime_handler=runtime_handler,
        sandbox=sandbox or b"",
    )
    return PullRequest(image, _credentials(auth or b""), context)


def _credentials(data: bytes) -> Credentials | None:
    username, password, auth, server_address, identity_token, registry_token = _texts(data, 1, 2, 3, 4, 5, 6)
    return Credentials.from_request(
        username=username,
        password=password,
        auth=auth,
        server_address=server_address,
        identity_token=identity_token,
        registry_token=registry_token,
    )


def read_verbose(data: bytes) -> bool:
    """Return the flag of a StatusRequest."""
    return _flag(data, 1)


def read_text(data: bytes) -> str:
    """Return the only field of a request that has one text, such as an ID or the version that a client speaks."""
    (found,) = _texts(data, 1)
    return found


def read_empty(data: bytes) -> None:
    """Read a request that has no fields yet; raises InvalidRequest for bytes that are no message."""
    for _ in wire.fields(data):
        pass
