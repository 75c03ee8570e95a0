"""Sees to it that clients find the socket as long as the server lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from criimage import problems
from criimage.errors import ConfigurationError
from criimage.problems import Problem

if TYPE_CHECKING:
    from criimage.server.listening.socket import BoundSocket
    from criimage.server.server import Server

__all__ = ["watch_socket"]

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
_SOURCE = "socket"
_REMEDY = "see who took the path; when it is free, restart the service, and with fd:// its socket unit"


async def watch_socket(bound: BoundSocket, server: Server) -> None:
    """Look every LOOK_SECONDS, for ever; a socket that cannot be bound again is a standing problem."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            before = await asyncio.to_thread(bound.check)
        except ConfigurationError as error:
            problems.tell(_SOURCE, Problem(error.text, _REMEDY))
            continue
        if before is not None:
            server.start(bound.socket)
            before.close()
            _log.warning("the socket was gone and has been bound again", endpoint=bound.endpoint)
        problems.over(_SOURCE)
