"""Our own `criimage.v1.StatusService`: what is wrong with the service, also where `Status` is a relayed runtime's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from criimage import __version__
from criimage.cri.criimage.v1 import GetStatusRequest, GetStatusResponse, ServiceProblem
from criimage.server.calls import Method, unary
from criimage.server.strict import parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from criimage.server.readiness import Readiness

__all__ = ["STATUS_SERVICE", "StatusService"]

STATUS_SERVICE = "criimage.v1.StatusService"


class StatusService:
    """GetStatus.

    Args:
        readiness: what is wrong now.
        backend: the chosen backend's name.
        runtime: socket of the runtime that is relayed, if any.
        shown: the effective settings without secrets.
    """

    def __init__(self, readiness: Readiness, backend: str, runtime: Path | None, shown: Mapping[str, object]) -> None:
        self._readiness = readiness
        self._backend = backend
        self._runtime = "" if runtime is None else str(runtime)
        self._shown = json.dumps(shown)

    def methods(self) -> list[Method]:
        """Return the one method."""
        return [unary(f"/{STATUS_SERVICE}/GetStatus", self._get)]

    async def _get(self, request: bytes) -> bytes:
        parse(GetStatusRequest, request)
        found = await self._readiness.problems()
        problems = [ServiceProblem(source, problem.text, problem.remedy) for source, problem in found]
        return bytes(GetStatusResponse(not found, __version__, self._backend, self._runtime, problems, self._shown))
