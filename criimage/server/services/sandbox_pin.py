"""Keeps the runtime's sandbox image pinned: without it no pod can begin, and kubelet would collect it as unused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from criimage.errors import InvalidRequest
from criimage.pins import Pins
from criimage.reference import DEFAULT_DOMAIN, Reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from criimage.channel import Channel
    from criimage.settings import Settings

__all__ = ["SandboxPin"]

_log = structlog.get_logger(__name__)

SECONDS = 60.0
"""How often the runtime is asked: a restart may bring another image."""
SECONDS_UNTIL_FOUND = 5.0


class SandboxPin:
    """The operator's pins and the runtime's sandbox image.

    Args:
        settings: as they were read first.
        repin: takes the pins when they change.
    """

    def __init__(self, settings: Settings, repin: Callable[[Pins], None]) -> None:
        self._repin = repin
        self._settings = settings
        self._told = ""
        self._is_pinned = True

    def pins(self, settings: Settings) -> Pins:
        """Return the pins of these settings; may take a while, and may run in a thread."""
        sandbox = settings.runtime.sandbox_image or self._told
        return Pins((*settings.pinned_images, *_names(sandbox)))

    def use(self, settings: Settings, pins: Pins) -> None:
        """Take other settings from now on, with what `pins` made of them."""
        self._settings = settings
        self._is_pinned = False  # the pins may be older than what the runtime told
        self._repin(pins)

    async def follow(self, runtime: Path) -> None:
        """Ask the runtime now and then, until it is cancelled.

        Args:
            runtime: its socket.
        """
        # Imported where there is a runtime only, as the relay is.
        from criimage.channel import Channel

        async with Channel(runtime) as channel:
            while True:
                await self.ask(channel)
                await asyncio.sleep(SECONDS if self._told else SECONDS_UNTIL_FOUND)

    async def ask(self, channel: Channel) -> None:
        """Ask the runtime once; one that does not answer, or tells nothing, leaves what is known."""
        from criimage.channel import CallError
        from criimage.runtime_facts import ask_runtime

        try:
            facts = await ask_runtime(channel)
        except CallError as error:
            _log.debug("the runtime does not tell its sandbox image", error=error.text)
            return
        if facts.sandbox_image and facts.sandbox_image != self._told:
            self._told, self._is_pinned = facts.sandbox_image, False
            _log.info("the runtime's sandbox image is pinned", image=self._told)
        if self._is_pinned:
            return
        settings = self._settings
        pins = await asyncio.to_thread(self.pins, settings)
        if settings is self._settings:
            self._is_pinned = True
            self._repin(pins)


def _names(sandbox: str) -> tuple[str, ...]:
    """Return the name in full, as images have it."""
    try:
        return (str(Reference.parse(sandbox, DEFAULT_DOMAIN)),)
    except InvalidRequest:
        return ()
