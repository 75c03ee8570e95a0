"""Follows the engine's image events for as long as the backend is open.

aiodocker's own follower ends for good with the first broken connection (A6), so this one holds its own request and
comes back by itself: after a restart of the engine, an upgrade, or a time without one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from criimage.errors import BackendUnavailable
from criimage_docker.engine.answers import Refusal
from criimage_docker.engine.json_stream import JSONStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage_docker.engine.api import Engine
    from criimage_docker.view.finder import Finder
    from criimage_docker.view.view import View

__all__ = ["follow"]

_log = structlog.get_logger(__name__)

# This changes no image. A push does: a graph driver's image gets another digest.
_HARMLESS = "save"
_FILTERS = '{"type":["image"]}'
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
# Of the engine's clock, which its Date header gives in whole seconds.
_LOOK_BACK = 2


async def follow(engine: Engine, view: View, finder: Finder) -> None:
    """Tell the view about every change, until cancelled; never raises anything else.

    Somebody else's pull names what it pulled: one inspect tells what it did, which is far less than a listing.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            answer = await engine.ping()
            # The engine subscribes a moment after it has sent the headers: what happens in between is only seen if it
            # is asked for by time. A repeated event costs one listing.
            since = {"since": str(int(answer.date) - _LOOK_BACK)} if answer.date is not None else {}
            async with engine.stream("GET", "events", {"filters": _FILTERS, **since}) as chunks:
                _log.debug("following the engine's events")
                pause = _FIRST_PAUSE
                view.live(await engine.features())
                await _tell(chunks, view, finder)
        except (BackendUnavailable, Refusal, ValueError) as error:
            _log.debug("the engine's events cannot be followed", reason=str(error))
        finally:
            view.live(None)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _tell(chunks: AsyncIterator[bytes], view: View, finder: Finder) -> None:
    stream = JSONStream()
    async for chunk in chunks:
        for event in stream.feed(chunk):
            # Newer engines leave out `status` and `id` (API 1.52), none has left out `Action` and `Actor`.
            action, actor = event.get("Action"), event.get("Actor")
            if action == "pull" and isinstance(actor, dict):
                name = str(actor.get("ID"))
                if view.pull_event(name):
                    with view.mending():
                        await finder.mend(name)
            elif action != _HARMLESS:
                view.changed()
