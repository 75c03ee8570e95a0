"""Calls to the runtime, in the version of the API that it has, and what their failures mean."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage import tracing, wire
from criimage.channel import CallError
from criimage.disk_failures import disk_failure
from criimage.duration import duration_text
from criimage.errors import BackendUnavailable, CriimageError, InvalidRequest, OperationFailed
from criimage.foreign_text import readable
from criimage.masking import NO_SECRETS, Secrets
from criimage_cri.runtimes import UNKNOWN, Runtime
from criimage_cri.words import STORE, tidy

if TYPE_CHECKING:
    from criimage.channel import Channel
    from criimage_cri.content import ContentService

__all__ = ["Upstream", "failure"]

_TEXT_LIMIT = 1000
_VERSIONS = ("v1", "v1alpha2")
_IMAGES, _RUNTIME = "ImageService", "RuntimeService"


class Upstream:
    """The runtime's two services.

    Args:
        channel: open.
        seconds: how long anything but a pull may take.
        content: where containerd tells of downloads.

    Attributes:
        tells_downloads: whether it does.
    """

    def __init__(self, channel: Channel, seconds: float, content: ContentService) -> None:
        self._channel = channel
        self._seconds = seconds
        self._content = content
        self.tells_downloads = False
        self._version = _VERSIONS[0]
        self._runtime: Runtime | None = None
        self._serves_images = False

    @property
    def last_known(self) -> Runtime:
        """Who answered last."""
        return self._runtime or UNKNOWN

    async def runtime(self) -> Runtime:
        """Return who answers, as far as it says; asked anew after the connection was lost.

        Raises:
            BackendUnavailable: nobody does.
        """
        return self._runtime or await self.greet()

    async def greet(self, seconds: float | None = None) -> Runtime:
        """Ask who answers, and whether it has an image service.

        Raises:
            BackendUnavailable: nobody does within `seconds`, or it has none.
        """
        try:
            runtime = _read_version(await self.call(_RUNTIME, "Version", b"", seconds))
        except OperationFailed:
            # An image service without a runtime may have no Version.
            runtime = UNKNOWN
        if not self._serves_images or runtime != self._runtime or runtime is UNKNOWN:
            # The service is there if it answers at all, though it be with an error of its own.
            with contextlib.suppress(OperationFailed):
                await self.images("ImageFsInfo", b"", seconds)
            self.tells_downloads = runtime.name == "containerd" and await self._has_content()
            self._serves_images = True
        self._runtime = runtime
        return runtime

    async def _has_content(self) -> bool:
        try:
            return await self._content.exists()
        except CallError as error:
            raise failure(error) from error

    async def images(self, method: str, request: bytes, seconds: float | None = None) -> bytes:
        """Call the image service; raises as `call` does."""
        return await self.call(_IMAGES, method, request, seconds)

    async def containers(self) -> bytes:
        """Return the ListContainersResponse of all containers; raises as `call` does."""
        return await self.call(_RUNTIME, "ListContainers", b"")

    async def call(self, service: str, method: str, request: bytes, seconds: float | None = None) -> bytes:
        """Call a method that is no pull; once more where the connection was lost, as by a runtime that was restarted.

        Raises:
            BackendUnavailable: it does not answer, or has no such service.
            OperationFailed: it answers with an error.
        """
        limit = seconds or self._seconds
        for is_last in (False, True):
            try:
                return await self._in_its_version(service, method, request, limit)
            except CallError as error:
                lost = error.status is Status.UNAVAILABLE and not error.reached
                if is_last or not lost:
                    raise failure(error, service, limit) from error
        raise AssertionError  # the last round returns or raises

    async def pull(self, request: bytes) -> bytes:
        """Call PullImage, for as long as it takes; a cancel ends the call at the runtime.

        Raises:
            CallError: as it came, for whoever knows what was pulled.
        """
        return await self._in_its_version(_IMAGES, "PullImage", request, None)

    async def _in_its_version(self, service: str, method: str, request: bytes, seconds: float | None) -> bytes:
        """Call in the version that worked last, and in the other one where that is not known there."""
        refused: CallError | None = None
        for version in sorted(_VERSIONS, key=lambda version: version != self._version):
            try:
                answer = await self._channel.unary(
                    f"/runtime.{version}.{service}/{method}", request, seconds, metadata=tracing.outgoing().items()
                )
            except CallError as error:
                if not error.reached:
                    # Another runtime may be there when the connection is made again.
                    self._runtime, self._serves_images = None, False
                if error.status is not Status.UNIMPLEMENTED:
                    raise
                refused = refused or error
            else:
                self._version = version
                return answer
        assert refused is not None  # noqa: S101 - there is a version, and it was refused
        raise refused


def failure(
    error: CallError, service: str = _IMAGES, seconds: float = 0, secrets: Secrets = NO_SECRETS
) -> CriimageError:
    """Return what a failed call means, where nothing more is known about it.

    Args:
        error: as the channel raised it.
        service: that was called.
        seconds: the call's own limit.
        secrets: never to be seen in the text.
    """
    # What happened on the way is told in our own words, with the socket in them, which tidying would take away.
    text = tidy(error.text, secrets) if error.reached else secrets.mask(readable(error.text, _TEXT_LIMIT))
    if error.status is Status.DEADLINE_EXCEEDED:
        return BackendUnavailable(f"the container runtime did not answer within {duration_text(seconds)}")
    if error.status in {Status.UNAVAILABLE, Status.CANCELLED}:
        return BackendUnavailable(f"the container runtime does not answer: {text}")
    if error.status is Status.UNIMPLEMENTED and service == _IMAGES:
        return BackendUnavailable(f"the container runtime has no CRI image service: {text}")
    disk = disk_failure(secrets.mask(error.text), STORE)
    return OperationFailed(f"the container runtime: {text if disk is None else disk.text}")


def _read_version(answer: bytes) -> Runtime:
    name = version = ""
    try:
        for number, _, value in wire.fields(answer):
            if number == 2:
                name = wire.text(value)
            elif number == 3:
                version = wire.text(value)
    except InvalidRequest:
        return UNKNOWN
    return Runtime(name.strip().lower(), version)
