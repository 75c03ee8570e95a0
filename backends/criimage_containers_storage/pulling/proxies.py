"""The proxies of one server: none until one is needed, a few at most, none that has gone by other rules (cri-o T17)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import structlog

from criimage_containers_storage.finishing import BackgroundTasks
from criimage_containers_storage.pulling.proxy import Proxy
from criimage_containers_storage.pulling.proxy_protocol import (
    OddProxyError,
    RefusedError,
    UnansweredError,
    UselessError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["Proxies", "ProxySetup"]

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_LIMIT = 3
# Longer than a question to a registry nearby takes, and shorter than a process of its own.
_WAIT_SECONDS = 0.03
_IDLE_SECONDS = 30.0
# It forgets to close a folder for each image that it opens (containers/image, registries_d.go, `loadAndMergeConfig`).
_QUESTIONS = 200
_LIFE_SECONDS = 600.0
_REST_SECONDS = 60.0
_END_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class ProxySetup:
    """How a proxy is started and what it has read; questions that need the same may share one.

    Attributes:
        command: skopeo and its verb, with what stands before it.
        flags: after the verb.
        environment: of the process, in order.
        logs_in: the questions bring credentials of their own.
        namespace: of the pods that it is asked for.
        files: changes when the tool does, or a file that it reads once and for all.
        policy: changes when the policy file does.
        questions: how many one proxy answers; 0 for as many as usual.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = field(repr=False)
    logs_in: bool
    namespace: str
    files: object
    policy: object
    questions: int = 0


class Proxies:
    """Keeps proxies up.

    A proxy that is not asked for half a minute ends, as does one of earlier files, one that is ten minutes old or has
    answered many questions, and one whose question was cancelled or came to no answer.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_LIMIT)
        self._idle: dict[Proxy, tuple[ProxySetup, asyncio.TimerHandle]] = {}
        self._live: set[Proxy] = set()
        self._starting = 0
        self._ends = BackgroundTasks()
        self._rests_until = 0.0
        self._closed = False

    async def ask(
        self,
        setup: ProxySetup,
        question: Callable[[Proxy], Awaitable[T]],
        auth: bytes,
        heard: Callable[[str], None] | None,
    ) -> T | None:
        """Return the answer to a question, or None if no proxy can give it: they are busy, or odd.

        Args:
            setup: what the question needs.
            question: see `Proxy.question`.
            auth: content of an auth file.
            heard: told what skopeo says meanwhile.

        Raises:
            RefusedError: the registry has not answered it, in skopeo's words.
            asyncio.CancelledError: the proxy is ended.
        """
        if self._closed or time.monotonic() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            return None
        try:
            async with self._proxy(setup) as proxy:
                try:
                    return await proxy.question(question, auth, heard)
                except RefusedError as error:
                    # What it has said goes with it: there stands how long a registry asks to wait.
                    raise RefusedError(*error.args, proxy.said()) from None
        except UnansweredError as error:
            _log.debug("an image proxy cannot tell", reason=str(error))
        except (OddProxyError, OSError) as error:
            _log.warning("an image proxy is not usable; skopeo is called for each question", reason=str(error))
        finally:
            self._slots.release()
        return None

    def stop(self) -> None:
        """End all and start none any more; questions that wait for an answer get none."""
        self._closed = True
        for proxy in list(self._live):
            if proxy in self._idle:
                self._end(proxy)
            else:
                proxy.stop()

    async def close(self) -> None:
        """Stop, and wait for the end of all, for some seconds at most; nobody asks any more."""
        self.stop()
        await self._ends.close(_END_SECONDS)

    @contextlib.asynccontextmanager
    async def _proxy(self, setup: ProxySetup) -> AsyncIterator[Proxy]:
        proxy = await self._taken(setup)
        sound = False
        try:
            yield proxy
            sound = True
        except (RefusedError, UnansweredError) as error:
            sound = not isinstance(error, UselessError)
            raise
        except (OddProxyError, OSError):
            if proxy.questions <= 1:
                self._rest()
            raise
        finally:
            if sound:
                self._give_back(setup, proxy)
            else:
                self._end(proxy)

    async def _taken(self, setup: ProxySetup) -> Proxy:
        found = None
        for proxy, (its, _) in list(self._idle.items()):
            # Namespaces differ in their policies: one that another file has is none that has changed.
            changed = its.files != setup.files or (its.command == setup.command and its.policy != setup.policy)
            if changed or not proxy.lives:
                self._end(proxy)
            elif its == setup and found is None:
                found = proxy
        if found is not None:
            self._idle.pop(found)[1].cancel()
            return found
        if len(self._live) + self._starting >= _LIMIT:
            # Whoever holds a slot uses one of them or none, so one is idle.
            self._end(next(iter(self._idle)))
        self._starting += 1
        try:
            proxy = await Proxy.start(setup.command, setup.flags, dict(setup.environment), logs_in=setup.logs_in)
        except (OddProxyError, OSError):
            self._rest()
            raise
        finally:
            self._starting -= 1
        _log.debug("an image proxy has started", version=f"0.2.{proxy.version}")
        self._live.add(proxy)
        return proxy

    def _give_back(self, setup: ProxySetup, proxy: Proxy) -> None:
        old = proxy.questions >= (setup.questions or _QUESTIONS) or time.monotonic() - proxy.began > _LIFE_SECONDS
        if old or self._closed or not proxy.lives:
            self._end(proxy)
            return
        timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end, proxy)
        self._idle[proxy] = setup, timer

    def _end(self, proxy: Proxy) -> None:
        if proxy in self._idle:
            self._idle.pop(proxy)[1].cancel()
        if proxy in self._live:
            self._live.discard(proxy)
            self._ends.start(proxy.end())

    def _rest(self) -> None:
        # The tool may be one that has no such verb any more, or speaks it otherwise.
        self._rests_until = time.monotonic() + _REST_SECONDS
