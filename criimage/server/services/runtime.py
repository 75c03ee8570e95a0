"""What an image service without a runtime answers of RuntimeService (cri-protocol 1.4).

Every client asks Version or Status before it uses an image service; all other methods are UNIMPLEMENTED.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from criimage import wire
from criimage.server.calls.method import Method, unary
from criimage.server.services import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.server.services.readiness import Readiness

__all__ = ["RuntimeService"]

KUBELET_API_VERSION = "0.1.0"
_RUNTIME_NAME = "criimage"
_REASON = "ImageServiceOnly"


class RuntimeService:
    """Version and Status.

    Args:
        readiness: the service's is the runtime's.
        version: of criimage.
        config: the effective settings without secrets, shown by a verbose Status.
    """

    def __init__(self, readiness: Readiness, version: str, config: Mapping[str, object]) -> None:
        self._readiness = readiness
        self._versions = {api: _version(version, api) for api in ("v1", "v1alpha2")}
        self.show(config)

    def show(self, config: Mapping[str, object]) -> None:
        """Show other settings from now on."""
        self._config = json.dumps(config)

    def methods(self) -> list[Method]:
        """Return the methods of both versions."""
        return [
            unary("/runtime.v1.RuntimeService/Version", self._version_v1, at_once=True),
            unary("/runtime.v1alpha2.RuntimeService/Version", self._version_v1alpha2, at_once=True),
            unary("/runtime.v1.RuntimeService/Status", self._status),
            unary("/runtime.v1alpha2.RuntimeService/Status", self._status),
        ]

    async def _version_v1(self, request: bytes) -> bytes:
        requests.read_text(request)
        return self._versions["v1"]

    async def _version_v1alpha2(self, request: bytes) -> bytes:
        requests.read_text(request)
        return self._versions["v1alpha2"]

    async def _status(self, request: bytes) -> bytes:
        verbose = requests.read_verbose(request)
        problems = await self._readiness.problems()
        text = "; ".join(problem.text for _, problem in problems)
        reason = _REASON
        if problems:
            reason = "BackendNotReady" if any(source == "backend" for source, _ in problems) else "ServiceNotReady"
        conditions = _condition("RuntimeReady", reason, text, fulfilled=not problems)
        conditions += _condition("NetworkReady", _REASON, "", fulfilled=True)
        config = wire.text_field(1, "config") + wire.text_field(2, self._config)
        return wire.length_delimited(1, conditions) + (wire.length_delimited(2, config) if verbose else b"")


def _version(runtime_version: str, api_version: str) -> bytes:
    """Encode a VersionResponse."""
    texts = enumerate((KUBELET_API_VERSION, _RUNTIME_NAME, runtime_version, api_version), start=1)
    return b"".join(wire.text_field(number, text) for number, text in texts)


def _condition(kind: str, reason: str, message: str, *, fulfilled: bool) -> bytes:
    """Encode field 1 of a RuntimeStatus: a RuntimeCondition."""
    encoded = wire.text_field(1, kind) + wire.varint_field(2, fulfilled) + wire.text_field(3, reason)
    return wire.length_delimited(1, encoded + (wire.text_field(4, message) if message else b""))
