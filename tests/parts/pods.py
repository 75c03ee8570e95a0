"""Pods and containers made by raw calls to a CRI runtime, for tests that only need them to be there."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import grpc

from criimage import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 60.0
_HOST_NETWORK = 2

_numbers = itertools.count()


@contextlib.contextmanager
def container(endpoint: str, image: str) -> Iterator[str]:
    """Makes a pod and in it a container that is not started; both are gone afterwards.

    Args:
        endpoint: `unix:///PATH` of a runtime whose sandbox image can run.
        image: as the runtime knows it; it is in use then.

    Yields:
        the container's ID.
    """
    with grpc.insecure_channel(endpoint) as channel:
        name = wire.text_field(1, f"pod{next(_numbers)}")
        metadata = name + wire.text_field(2, "uid") + wire.text_field(3, "default")
        options = wire.length_delimited(2, wire.length_delimited(1, wire.varint_field(1, _HOST_NETWORK)))
        config = wire.length_delimited(1, metadata) + wire.length_delimited(8, options)
        pod = _call(channel, "RunPodSandbox", wire.length_delimited(1, config))
        pod_id = wire.text_field(1, pod)
        try:
            spec = wire.length_delimited(2, wire.text_field(1, image))
            wanted = wire.length_delimited(1, wire.text_field(1, "holder")) + spec
            wanted += wire.text_field(3, "sleep") + wire.text_field(4, "600")
            request = pod_id + wire.length_delimited(2, wanted) + wire.length_delimited(3, config)
            yield _call(channel, "CreateContainer", request)
        finally:
            _call(channel, "StopPodSandbox", pod_id)
            _call(channel, "RemovePodSandbox", pod_id)


def _call(channel: grpc.Channel, method: str, request: bytes) -> str:
    """Calls and returns the text of the answer's first field."""
    answer: bytes = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}", bytes, bytes)(request, timeout=_SECONDS)
    return next((wire.text(value) for number, _, value in wire.fields(answer) if number == 1), "")
