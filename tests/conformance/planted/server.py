"""Faults of the server in front of a backend."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from grpclib.const import Status

import criimage.server.calls.connection_calls
import criimage.server.services.images
from conformance.planted.fault import patched
from criimage.credentials import Credentials
from criimage.errors import InvalidRequest
from criimage.pulls.running import PullKey
from criimage.server.calls.grpc_status import status_of
from criimage.server.calls.method import unary
from criimage.server.services import requests
from criimage.server.services.replies import ImageReplies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from criimage.backend import Image


@patched("L5", "an empty filter is taken for a name")
def _empty_filter(patch: pytest.MonkeyPatch) -> None:
    read = requests.read_filter
    patch.setattr(requests, "read_filter", lambda data: read(data) or ("none.example/none:1" if data else ""))


@patched("P1", "a pull answers nothing")
def _no_reference(patch: pytest.MonkeyPatch) -> None:
    async def answer(_self: object, request: bytes, **_more: object) -> bytes:
        return b""

    patch.setattr(criimage.server.services.images.ImageService, "_pull", answer)


@patched("P2", "a pull answers the digest")
def _digest_as_reference(patch: pytest.MonkeyPatch) -> None:
    pull = criimage.server.services.images.ImageService._pull

    async def answer(self: Any, request: bytes, **_more: object) -> bytes:  # noqa: ANN401
        return await pull(self, request, repo_digest=True)

    patch.setattr(criimage.server.services.images.ImageService, "_pull", answer)


@patched("C6", "the field auth is passed over")
def _no_auth_field(patch: pytest.MonkeyPatch) -> None:
    read = Credentials.from_request

    def without(**fields: str) -> Credentials | None:
        return read(**{**fields, "auth": ""})

    patch.setattr(Credentials, "from_request", without)


@patched("C7", "a broken field auth is taken for none")
def _broken_auth_field(patch: pytest.MonkeyPatch) -> None:
    read = Credentials.from_request

    def lenient(**fields: str) -> Credentials | None:
        try:
            return read(**fields)
        except InvalidRequest:
            return None

    patch.setattr(Credentials, "from_request", lenient)


@patched("M1", "the last image of a stream comes twice")
def _twice_in_the_stream(patch: pytest.MonkeyPatch) -> None:
    def batches(self: ImageReplies, images: tuple[Image, ...]) -> Iterator[bytes]:
        yield self.some(images)
        yield self.some(images[-1:])

    patch.setattr(ImageReplies, "batches", batches)


@patched("M3", "a stream begins with an empty message")
def _empty_message(patch: pytest.MonkeyPatch) -> None:
    def batches(self: ImageReplies, images: tuple[Image, ...]) -> Iterator[bytes]:
        yield b""
        yield self.some(images)

    patch.setattr(ImageReplies, "batches", batches)


def _other_status(patch: pytest.MonkeyPatch, change: Callable[[Status, str], tuple[Status, str]]) -> None:
    told = status_of

    patch.setattr(criimage.server.calls.connection_calls, "status_of", lambda error: change(*told(error)))


@patched("E1", "a failed pull is NOT_FOUND")
def _not_found(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (Status.NOT_FOUND if status is Status.UNKNOWN else status, text))


@patched("E2", "each failure has a number")
def _numbered(patch: pytest.MonkeyPatch) -> None:
    number = itertools.count()
    _other_status(patch, lambda status, text: (status, f"{text} ({next(number)})"))


@patched("E3", "a failure's text has two lines")
def _two_lines(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (status, f"{text}\nsorry"))


@patched("E5", "a failure does not name the image")
def _nameless(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (status, text.partition(":")[0]))


@patched("E7", "no prefix tells that a registry is out of reach")
def _no_prefix(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (status, text.removeprefix("RegistryUnavailable: ")))


@patched("Q2", "equal pulls are not shared")
def _unshared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PullKey, "__hash__", lambda self: id(self))
    patch.setattr(PullKey, "__eq__", lambda self, other: self is other)


@patched("Q6", "pulls are shared across credentials")
def _shared_by_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PullKey, "__hash__", lambda self: hash(self.candidates))
    patch.setattr(PullKey, "__eq__", lambda self, other: self.candidates == other.candidates)


@patched("H2", "bytes that are no message are an empty one")
def _lenient(patch: pytest.MonkeyPatch) -> None:
    read = requests.read_filter

    def lenient(data: bytes) -> str:
        try:
            return read(data)
        except InvalidRequest:
            return ""

    patch.setattr(requests, "read_filter", lenient)


@patched("A2", "v1alpha2 shows other images")
def _other_images(patch: pytest.MonkeyPatch) -> None:
    methods = criimage.server.services.images.ImageService.methods

    def without(self: Any) -> list[Any]:  # noqa: ANN401
        async def nothing(_request: bytes) -> bytes:
            return b""

        made = methods(self)
        old = "/runtime.v1alpha2.ImageService/ImageStatus"
        return [unary(old, nothing) if one.path == old else one for one in made]

    patch.setattr(criimage.server.services.images.ImageService, "methods", without)
