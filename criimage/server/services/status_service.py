"""Our own `criimage.v1.StatusService`: what is wrong with the service, also where `Status` is a relayed runtime's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from criimage import __version__, wire
from criimage.server.calls.method import Method, unary
from criimage.server.services import requests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from criimage.server.services.readiness import Readiness

__all__ = ["StatusService"]

_STATUS_SERVICE = "criimage.v1.StatusService"


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
        self.show(shown)

    def show(self, settings: Mapping[str, object]) -> None:
        """Show other settings from now on."""
        self._shown = json.dumps(settings)

    def methods(self) -> list[Method]:
        """Return the one method."""
        return [unary(f"/{_STATUS_SERVICE}/GetStatus", self._get)]

    async def _get(self, request: bytes) -> bytes:
        requests.read_empty(request)
        found = await self._readiness.problems()
        parts = [wire.varint_field(1, not found), _texts(2, __version__, self._backend, self._runtime)]
        parts += [
            wire.length_delimited(5, _texts(1, source, problem.text, problem.remedy)) for source, problem in found
        ]
        return b"".join((*parts, _texts(6, self._shown)))


def _texts(first: int, *texts: str) -> bytes:
    """Encode texts in fields that follow one another; those that are empty are left out."""
    return b"".join(wire.text_field(number, text) for number, text in enumerate(texts, start=first) if text)
