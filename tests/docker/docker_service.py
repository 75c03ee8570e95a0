"""A kubelet of dockershim's time, as far as images go: it asks over `runtime.v1alpha2`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import betterproto

from criimage.cri.runtime import v1

if TYPE_CHECKING:
    import grpc
    import pytest


@dataclass(frozen=True, slots=True)
class DockerService:
    """What dockershim calls dockerService: the five calls of its ImageManagerService."""

    channel: grpc.Channel

    def list_images(self, image_filter: v1.ImageFilter | None = None) -> v1.ListImagesResponse:
        """Call ListImages."""
        request = v1.ListImagesRequest() if image_filter is None else v1.ListImagesRequest(filter=image_filter)
        return v1.ListImagesResponse().parse(self._call("ListImages", request))

    def image_status(self, name: str, *, verbose: bool = False) -> v1.ImageStatusResponse:
        """Call ImageStatus."""
        request = v1.ImageStatusRequest(image=v1.ImageSpec(image=name), verbose=verbose)
        return v1.ImageStatusResponse().parse(self._call("ImageStatus", request))

    def pull_image(self, name: str, auth: v1.AuthConfig | None = None) -> str:
        """Call PullImage and return the image_ref."""
        request = v1.PullImageRequest(image=v1.ImageSpec(image=name))
        if auth is not None:
            request.auth = auth
        return v1.PullImageResponse().parse(self._call("PullImage", request)).image_ref

    def remove_image(self, name: str) -> None:
        """Call RemoveImage."""
        self._call("RemoveImage", v1.RemoveImageRequest(image=v1.ImageSpec(image=name)))

    def raw(self, method: str, request: bytes) -> bytes:
        """Call with a message of the test's own."""
        send = self.channel.unary_unary(f"/runtime.v1alpha2.ImageService/{method}", bytes, bytes)
        answer: bytes = send(request, timeout=60)
        return answer

    def _call(self, method: str, request: betterproto.Message) -> bytes:
        return self.raw(method, bytes(request))


def present(message: betterproto.Message) -> bool:
    """Whether a field of an answer was sent at all."""
    return betterproto.serialized_on_wire(message)


def refused(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[str, str]:
    """The gRPC code's name and the text."""
    return error.value.code().name, str(error.value.details())
