"""A server between a client of frames and a runtime that does as told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criimage.testing.scripted_runtime import ScriptedRuntime
from parts.raw_client import RawClient, raw_client
from parts.serving import Serving, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERVICE = "/runtime.v1.RuntimeService"
STATUS = f"{SERVICE}/Status"
UNKNOWN_METHOD = f"{SERVICE}/InventedTomorrow"


@dataclass(frozen=True)
class Relayed:
    """A runtime, the server before it, and a client."""

    runtime: ScriptedRuntime
    server: Serving
    client: RawClient


@asynccontextmanager
async def relayed(folder: Path, **options: Any) -> AsyncIterator[Relayed]:  # noqa: ANN401 - of ScriptedRuntime
    path = folder / "runtime.sock"
    async with (
        ScriptedRuntime(path, **options) as runtime,
        serving(folder, runtime={"endpoint": f"unix://{path}"}) as server,
        raw_client(server.path) as client,
    ):
        yield Relayed(runtime, server, client)
