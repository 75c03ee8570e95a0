"""What an image service without a runtime answers of RuntimeService (cri-protocol 1.4).

Every client asks Version or Status before it uses an image service; all other methods are UNIMPLEMENTED.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from criimage.cri.runtime.v1 import RuntimeCondition, RuntimeStatus, StatusResponse, VersionRequest, VersionResponse
from criimage.server import requests
from criimage.server.calls import Method, unary
from criimage.server.strict import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.server.readiness import Readiness

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
        self._version = version
        self._config = json.dumps(config)

    def methods(self) -> list[Method]:
        """Return the methods of both versions."""
        return [
            unary("/runtime.v1.RuntimeService/Version", self._version_v1, at_once=True),
            unary("/runtime.v1alpha2.RuntimeService/Version", self._version_v1alpha2, at_once=True),
            unary("/runtime.v1.RuntimeService/Status", self._status, at_once=True),
            unary("/runtime.v1alpha2.RuntimeService/Status", self._status, at_once=True),
        ]

    async def _version_v1(self, request: bytes) -> bytes:
        return self._version_reply(request, "v1")

    async def _version_v1alpha2(self, request: bytes) -> bytes:
        return self._version_reply(request, "v1alpha2")

    def _version_reply(self, request: bytes, api_version: str) -> bytes:
        parse(VersionRequest, request)
        return bytes(
            VersionResponse(
                version=KUBELET_API_VERSION,
                runtime_name=_RUNTIME_NAME,
                runtime_version=self._version,
                runtime_api_version=api_version,
            )
        )

    async def _status(self, request: bytes) -> bytes:
        verbose = requests.read_verbose(request)
        problems = await self._readiness.problems()
        text = "; ".join(problem.text for _, problem in problems)
        reason = _REASON
        if problems:
            reason = "BackendNotReady" if any(source == "backend" for source, _ in problems) else "ServiceNotReady"
        conditions = [
            RuntimeCondition(type="RuntimeReady", status=not problems, reason=reason, message=text),
            RuntimeCondition(type="NetworkReady", status=True, reason=_REASON),
        ]
        info = {"config": self._config} if verbose else {}
        return bytes(StatusResponse(status=RuntimeStatus(conditions=conditions), info=info))
