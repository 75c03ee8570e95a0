"""In which version of the API a call goes up: its own where the runtime has it, else the other one.

Kubelets before 1.26 may speak v1alpha2, runtimes of today have only v1, old ones only v1alpha2. RuntimeService's
messages of v1alpha2 are those of v1 on the wire, as far as they go (cri-protocol 1.1), so only the path differs. Which
versions a runtime has is asked by one Version call, once for each connection and only for a version that is used.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage.channel import CallError

if TYPE_CHECKING:
    from criimage.channel import Channel

__all__ = ["SERVICES", "Versions"]

V1 = "/runtime.v1.RuntimeService/"
V1ALPHA2 = "/runtime.v1alpha2.RuntimeService/"
SERVICES = (V1, V1ALPHA2)
_OTHER = {V1: V1ALPHA2, V1ALPHA2: V1}

PROBE_SECONDS = 10.0


class Versions:
    """What is known of one runtime.

    Args:
        channel: open.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._known: dict[str, str] = {}
        self._generation = 0
        self._asking: dict[str, asyncio.Task[str]] = {}

    def known(self, service: str) -> str | None:
        """Return the service that a call to `service` goes to, or None while that is not known."""
        if self._generation != self._channel.links.generation:
            self._known.clear()
        return self._known.get(service)

    def ask(self, service: str) -> asyncio.Task[str]:
        """Find out; callers that ask at once share one question.

        The task raises CallError where the runtime cannot be reached.
        """
        task = self._asking.get(service)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._find(service), name=f"versions of {service}")
            self._asking[service] = task
            task.add_done_callback(lambda _: self._asking.pop(service, None))
        return task

    def close(self) -> None:
        """Stop asking."""
        for task in self._asking.values():
            task.cancel()

    async def _find(self, service: str) -> str:
        found = service
        if not await self._has(service) and await self._has(_OTHER[service]):
            found = _OTHER[service]
        if self._generation != self._channel.links.generation:
            self._known.clear()
            self._generation = self._channel.links.generation
        self._known[service] = found
        return found

    async def _has(self, service: str) -> bool:
        try:
            await self._channel.unary(f"{service}Version", b"", PROBE_SECONDS)
        except CallError as error:
            if not error.reached and error.status is Status.UNAVAILABLE:
                raise
            return error.status is not Status.UNIMPLEMENTED
        return True
