"""The calls of CRI's image service as a check makes them; each is kept for the report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import betterproto
from grpclib.const import Status

from criimage.channel import CallError, Channel
from criimage.conformance.exchange import Exchange, shown
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECONDS", "CallError", "Client", "Status", "auth_of"]

SECONDS = 30.0
"""Deadline of a call; a kubelet waits longer, but here nothing is large."""

ReplyT = TypeVar("ReplyT", bound=betterproto.Message)
_KEPT = 40


def auth_of(username: str, password: str) -> v1.AuthConfig:
    """Return credentials as a kubelet sends them."""
    return v1.AuthConfig(username=username, password=password)


class Client:
    """Talks to the service under test.

    Args:
        channel: to it.

    Attributes:
        exchanges: what was said, oldest first; only the last of many.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.exchanges: list[Exchange] = []

    async def images(self, pattern: str | None = None, *, api: str = "v1") -> list[v1.Image]:
        """List images; without a pattern there is no filter at all."""
        request = v1.ListImagesRequest()
        if pattern is not None:
            request.filter = v1.ImageFilter(image=v1.ImageSpec(image=pattern))
        return (await self._ask("ListImages", request, v1.ListImagesResponse, api=api)).images

    async def stream(self, pattern: str | None = None) -> list[list[v1.Image]]:
        """Return the images of each message of StreamImages."""
        request = v1.StreamImagesRequest()
        if pattern is not None:
            request.filter = v1.ImageFilter(image=v1.ImageSpec(image=pattern))
        begun, parts, error = time.perf_counter(), [], ""
        try:
            async for part in self._channel.stream("/runtime.v1.ImageService/StreamImages", bytes(request)):
                parts.append(v1.StreamImagesResponse().parse(part).images)  # noqa: PERF401 - what came before an error counts
        except CallError as failed:
            error = f"{failed.status.name}: {failed.text}"
            raise
        finally:
            answer = f"{len(parts)} messages, {sum(map(len, parts))} images"
            self._keep("v1 StreamImages", shown(request), answer, error, begun)
        return parts

    async def status(self, text: str, *, verbose: bool = False, api: str = "v1") -> v1.ImageStatusResponse:
        """Ask for one image; `image.id` is empty where there is none."""
        request = v1.ImageStatusRequest(image=v1.ImageSpec(image=text), verbose=verbose)
        return await self._ask("ImageStatus", request, v1.ImageStatusResponse, api=api)

    async def pull(
        self,
        name: str,
        auth: v1.AuthConfig | None = None,
        *,
        annotations: Mapping[str, str] | None = None,
        sandbox: v1.PodSandboxConfig | None = None,
        seconds: float | None = SECONDS,
        api: str = "v1",
    ) -> str:
        """Pull an image and return its image_ref."""
        request = v1.PullImageRequest(image=v1.ImageSpec(image=name, annotations=dict(annotations or {})))
        if auth is not None:
            request.auth = auth
        if sandbox is not None:
            request.sandbox_config = sandbox
        return (await self._ask("PullImage", request, v1.PullImageResponse, seconds=seconds, api=api)).image_ref

    async def remove(self, text: str, *, api: str = "v1") -> None:
        """Remove an image."""
        request = v1.RemoveImageRequest(image=v1.ImageSpec(image=text))
        await self._ask("RemoveImage", request, v1.RemoveImageResponse, api=api)

    async def usage(self, *, api: str = "v1") -> v1.ImageFsInfoResponse:
        """Ask what images take on disk."""
        return await self._ask("ImageFsInfo", v1.ImageFsInfoRequest(), v1.ImageFsInfoResponse, api=api)

    async def version(self, *, seconds: float = SECONDS) -> v1.VersionResponse:
        """Ask what answers."""
        request, service = v1.VersionRequest(version="0.1.0"), "RuntimeService"
        return await self._ask("Version", request, v1.VersionResponse, seconds=seconds, service=service)

    async def send(self, method: str, message: bytes, *, seconds: float | None = SECONDS) -> bytes:
        """Call `/package.Service/Method` with any bytes."""
        begun = time.perf_counter()
        try:
            answer = await self._channel.unary(method, message, seconds)
        except CallError as failed:
            self._keep(method, shown(message), "", f"{failed.status.name}: {failed.text}", begun)
            raise
        self._keep(method, shown(message), shown(answer), "", begun)
        return answer

    async def _ask(
        self,
        method: str,
        request: betterproto.Message,
        reply: type[ReplyT],
        *,
        seconds: float | None = SECONDS,
        api: str = "v1",
        service: str = "ImageService",
    ) -> ReplyT:
        begun = time.perf_counter()
        title = f"{api} {method}"
        try:
            raw = await self._channel.unary(f"/runtime.{api}.{service}/{method}", bytes(request), seconds)
            answer = reply().parse(raw)
        except CallError as failed:
            self._keep(title, shown(request), "", f"{failed.status.name}: {failed.text}", begun)
            raise
        except BaseException as failed:
            self._keep(title, shown(request), "", type(failed).__name__, begun)
            raise
        self._keep(title, shown(request), shown(answer), "", begun)
        return answer

    def _keep(self, method: str, request: str, answer: str, error: str, begun: float) -> None:
        took = (time.perf_counter() - begun) * 1000
        self.exchanges.append(Exchange(method, request, answer, error[:1000], took))
        del self.exchanges[:-_KEPT]
