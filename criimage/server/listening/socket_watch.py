"""Sees to it that clients find the socket as long as the server lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from criimage import problems
from criimage.errors import ConfigurationError
from criimage.problems import Problem

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from criimage.server.listening.socket import BoundSocket

__all__ = ["watch_socket"]

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
_SOURCE = "socket"
_REMEDY = "see who took the path; when it is free, restart the service, and with fd:// its socket unit"


async def watch_socket(bound: BoundSocket, serve_on: Callable[[socket.socket], None]) -> None:
    """Look every LOOK_SECONDS, for ever; a socket that cannot be bound again is a standing problem.

    Args:
        bound: what is looked at.
        serve_on: accepts from another socket from now on, where it had to be bound again.
    """
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            before = await asyncio.to_thread(bound.check)
        except ConfigurationError as error:
            problems.tell(_SOURCE, Problem(error.text, _REMEDY))
            continue
        if before is not None:
            serve_on(bound.socket)
            before.close()
            _log.warning("the socket was gone and has been bound again", endpoint=bound.endpoint)
        problems.over(_SOURCE)
