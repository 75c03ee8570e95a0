"""What the requests of the image service ask for, as values."""

from __future__ import annotations

from dataclasses import dataclass

from criimage.backend import PullContext
from criimage.credentials import Credentials
from criimage.cri.runtime.v1 import AuthConfig, ImageSpec, PodSandboxMetadata
from criimage.errors import InvalidRequest
from criimage.server import wire
from criimage.server.strict import parse

__all__ = ["ImageRequest", "PullRequest", "read_filter", "read_pull", "read_remove", "read_status", "read_verbose"]


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


def _flag(value: wire.Value) -> bool:
    if not isinstance(value, int):
        raise InvalidRequest("the request cannot be decoded")
    return value != 0


def _spec_text(spec: bytes, before: str | None) -> str:
    """Return field 1 of an ImageSpec; a spec that comes in pieces is merged, as protobuf demands."""
    image = before or ""
    for number, _, value in wire.fields(spec):
        if number == 1:
            image = wire.text(value)
    return image


def _required(image: str | None) -> str:
    if image is None:
        raise InvalidRequest("no image specified")
    return image


def read_filter(data: bytes) -> str:
    """Return the text that ListImages or StreamImages filters by; empty for all (cri-protocol 3.1)."""
    image = ""
    for number, _, value in wire.fields(data):
        if number == 1:
            for inner, _, spec in wire.fields(_message(value)):
                if inner == 1:
                    image = _spec_text(_message(spec), image)
    return image


def read_status(data: bytes) -> ImageRequest:
    """Read an ImageStatusRequest.

    Raises:
        InvalidRequest: undecodable, or without ImageSpec.
    """
    image: str | None = None
    verbose = False
    for number, _, value in wire.fields(data):
        if number == 1:
            image = _spec_text(_message(value), image)
        elif number == 2:
            verbose = _flag(value)
    return ImageRequest(_required(image), verbose)


def read_remove(data: bytes) -> ImageRequest:
    """Read a RemoveImageRequest; raises as `read_status` does."""
    image: str | None = None
    for number, _, value in wire.fields(data):
        if number == 1:
            image = _spec_text(_message(value), image)
    return ImageRequest(_required(image))


def read_pull(data: bytes) -> PullRequest:
    """Read a PullImageRequest.

    The sandbox config is looked at for its names only and kept as it came, so that what we do not know passes through.

    Raises:
        InvalidRequest: undecodable, without ImageSpec, or with credentials that cannot be decoded.
    """
    parts = {1: b"", 2: b"", 3: b""}
    present = set()
    for number, _, value in wire.fields(data):
        if number in parts:
            parts[number] += _message(value)  # pieces of one message merge by being joined
            present.add(number)
    if 1 not in present:
        raise InvalidRequest("no image specified")
    spec = parse(ImageSpec, parts[1])
    metadata = _sandbox_metadata(parts[3])
    context = PullContext(
        namespace=metadata.namespace,
        pod=metadata.name,
        annotations=dict(spec.annotations),
        runtime_handler=spec.runtime_handler,
        sandbox=parts[3],
    )
    return PullRequest(spec.image, _credentials(parts[2]), context)


def _sandbox_metadata(sandbox: bytes) -> PodSandboxMetadata:
    metadata = b"".join(_message(value) for number, _, value in wire.fields(sandbox) if number == 1)
    return parse(PodSandboxMetadata, metadata)


def _credentials(data: bytes) -> Credentials | None:
    auth = parse(AuthConfig, data)
    return Credentials.from_request(
        username=auth.username,
        password=auth.password,
        auth=auth.auth,
        server_address=auth.server_address,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )


def read_verbose(data: bytes) -> bool:
    """Return the flag of a StatusRequest."""
    verbose = False
    for number, _, value in wire.fields(data):
        if number == 1:
            verbose = _flag(value)
    return verbose
