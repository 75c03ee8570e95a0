"""Tries behaviours one after the other and cleans up, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from typing import TYPE_CHECKING

from criimage.channel import CallError, Channel
from criimage.conformance.behaviour import Need
from criimage.conformance.client import Client, Status
from criimage.conformance.outcome import Failed, NotApplicable, Outcome, Result, Summary
from criimage.conformance.supply import PASSWORD, Supply
from criimage.conformance.trial import Trial
from criimage.testing.registry_client import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from criimage.conformance.behaviour import Behaviour
    from criimage.conformance.supply import Published

__all__ = ["CannotRun", "Plan", "run"]

_BEHAVIOUR_SECONDS = 90.0
_CLEANUP_SECONDS = 120.0
"""Without one removal that succeeds."""
_CLEANUP_CALLS = 8
_TIDYING_SECONDS = 20.0
_SILENCE_SECONDS = 15.0
"""How long a service that ended may take to be there again, started by whoever watches over it."""
_RESTART_SECONDS = 60.0

_TOLD_LIMIT = 300
_TROUBLE = frozenset({Outcome.FAILED, Outcome.KNOWN, Outcome.SUITE_ERROR})

_HELP = """the service cannot pull from the suite's registry at {host}: {error}
The registry speaks plain HTTP on 127.0.0.1. Let the service use it so:
  containers-storage, CRI-O, podman: in registries.conf  [[registry]]  location = "127.0.0.1"  insecure = true
  Docker Engine: 127.0.0.0/8 needs nothing, unless the engine is in another network namespace
  containerd: 127.0.0.1 needs nothing, unless `config_path` has a `_default` entry that says https
or give a registry that it can use, to which anybody may push: --registry HOST:PORT"""


_NO_PUSH = """the suite cannot push to the registry {host}: {error}
It is spoken to in plain HTTP and without credentials, and anybody has to be allowed to push there."""


class CannotRun(Exception):
    """The suite could not begin; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        socket: of the service.
        endpoint: the same as the user wrote it.
        behaviours: in order.
        registry: `HOST:PORT` to push to; empty for a registry of ours.
        hostile: whether the hostile group may be sent to a service that is not criimage.
        restart: a shell-like command that restarts the service; empty for none.
        known: reason by number of each difference that is known.
        known_of: of which service, and when or where that was seen; for reports.
        repeated_by: the command that repeats the run; for reports.
    """

    socket: Path
    endpoint: str
    behaviours: tuple[Behaviour, ...]
    registry: str = ""
    hostile: bool = False
    restart: str = ""
    known: Mapping[str, str] = field(default_factory=dict)
    known_of: str = ""
    repeated_by: str = ""


async def run(plan: Plan, on_result: Callable[[Result], None] = lambda _result: None) -> Summary:
    """Try every behaviour of a plan.

    A cancel ends the trying; what was pulled is removed all the same, and the summary says so.

    Args:
        plan: what to run.
        on_result: told of each result at once.

    Raises:
        CannotRun: nobody answers at the socket, or nothing can be pulled there.
    """
    begun, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    results: list[Result] = []
    interrupted, silent_since = False, ""
    async with Channel(plan.socket) as channel:
        server, is_ours = await _server(channel, plan)
        with Supply(plan.registry) as supply:
            runner = _Runner(plan, channel, supply, is_ours=is_ours)
            try:
                await runner.prepare()
                for behaviour in plan.behaviours:
                    result = await runner.result(behaviour)
                    results.append(result)
                    on_result(result)
                    if result.outcome in _TROUBLE and not await runner.answers():
                        silent_since = behaviour.number
                        break
                    await runner.tidy_up()
            except asyncio.CancelledError:
                interrupted = True
            finally:
                left = await runner.clean_up(_SILENCE_SECONDS if silent_since else _CLEANUP_SECONDS)
    seconds = time.monotonic() - begun
    about = (plan.known_of, plan.repeated_by, silent_since)
    return Summary(server, plan.endpoint, started, seconds, tuple(results), left, interrupted, *about)


async def _server(channel: Channel, plan: Plan) -> tuple[str, bool]:
    """What answers, and whether it is criimage itself."""
    try:
        version = await Client(channel).version()
    except CallError as error:
        raise CannotRun(f"no CRI service answers at {plan.endpoint}: {error.text} ({error.status.name})") from error
    try:
        await channel.unary("/criimage.v1.PullService/ListPulls", b"", 10.0)
    except CallError:
        is_ours = False
    else:
        is_ours = True
    answers = f"{version.runtime_name} {version.runtime_version}".strip()
    if is_ours and version.runtime_name != "criimage":
        answers = f"criimage in front of {answers}"
    return answers, is_ours


class _Runner:
    """Knows what the service has, and what was pulled."""

    def __init__(self, plan: Plan, channel: Channel, supply: Supply, *, is_ours: bool) -> None:
        self._plan, self._channel, self._supply, self._is_ours = plan, channel, supply, is_ours
        self._has = Need.NOTHING
        self._lacks: dict[Need, str] = {}
        self._published: list[Published] = []
        self._last: list[Published] = []
        self._tidies = True

    async def prepare(self) -> None:
        """Find out what can be tried.

        Raises:
            CannotRun: nothing can be pulled.
        """
        self._may(Need.SCRIPTED, self._supply.scripted, "the registry that was given cannot be told to misbehave")
        hostile = self._is_ours or self._plan.hostile
        self._may(Need.HOSTILE, hostile, "it may end a service that is not criimage: --hostile")
        self._may(Need.RESTART, bool(self._plan.restart), "there is no command that restarts the service: --restart")
        streams = await self._answers("/runtime.v1.ImageService/StreamImages", stream=True)
        self._may(Need.STREAMING, streams, "the service has no StreamImages")
        old = await self._answers("/runtime.v1alpha2.ImageService/ImageFsInfo")
        self._may(Need.V1ALPHA2, old, "the service has no v1alpha2")
        trial = Trial(Client(self._channel), self._supply, "first")
        try:
            made = await trial.publish()
        except (OSError, HTTPException, RegistryError) as error:
            # What is no registry answers with a page.
            told = " ".join(str(error).split())[:_TOLD_LIMIT]
            raise CannotRun(_NO_PUSH.format(host=self._supply.host, error=told)) from error
        self._published.append(made)
        try:
            await trial.client.pull(made.name)
        except CallError as error:
            raise CannotRun(_HELP.format(host=self._supply.host, error=error.text)) from error

    def _may(self, need: Need, there: bool, otherwise: str) -> None:
        if there:
            self._has |= need
        else:
            self._lacks[need] = otherwise

    async def _answers(self, method: str, *, stream: bool = False) -> bool:
        try:
            if stream:
                async for _ in self._channel.stream(method, b""):
                    pass
            else:
                await self._channel.unary(method, b"", 30.0)
        except CallError as error:
            return error.status is not Status.UNIMPLEMENTED
        return True

    async def result(self, behaviour: Behaviour) -> Result:
        """Try one behaviour."""
        self._last = []
        missing = [text for need, text in self._lacks.items() if need & behaviour.needs]
        if missing:
            return Result(behaviour, Outcome.NOT_APPLICABLE, missing[0])
        client = Client(self._channel)
        trial = Trial(client, self._supply, behaviour.number, restart=self._restart)
        begun = time.monotonic()
        try:
            outcome, text = await self._tried(behaviour, trial)
        finally:
            self._published += trial.published
            self._last = trial.published
        outcome, text = self._judged(behaviour, outcome, text)
        seconds = time.monotonic() - begun
        if self._supply.scripted:
            for hub in (self._supply.hub, self._supply.basic, self._supply.bearer):
                hub.release()
        said = tuple(client.exchanges) if outcome not in {Outcome.PASSED, Outcome.NOT_APPLICABLE} else ()
        return Result(behaviour, outcome, text, said, seconds)

    async def _tried(self, behaviour: Behaviour, trial: Trial) -> tuple[Outcome, str]:
        limit = asyncio.timeout(_BEHAVIOUR_SECONDS)
        try:
            async with limit:
                await behaviour.check(trial)
        except Failed as failed:
            return Outcome.FAILED, str(failed)
        except NotApplicable as reason:
            return Outcome.NOT_APPLICABLE, str(reason)
        except CallError as error:
            return Outcome.FAILED, f"expected: the call succeeds; it is {error.status.name}: {error.text[:500]}"
        except TimeoutError as error:
            if limit.expired():
                return Outcome.FAILED, f"expected: an end within {_BEHAVIOUR_SECONDS:g} s; there is none"
            return Outcome.SUITE_ERROR, f"{error}"
        except Exception as error:  # noqa: BLE001 - the other behaviours are worth trying
            return Outcome.SUITE_ERROR, f"{type(error).__name__}: {error}"
        return Outcome.PASSED, ""

    def _judged(self, behaviour: Behaviour, outcome: Outcome, text: str) -> tuple[Outcome, str]:
        text = text.replace(PASSWORD, "***")
        reason = self._plan.known.get(behaviour.number)
        if reason is None:
            return outcome, text
        if outcome is Outcome.FAILED:
            return Outcome.KNOWN, f"{reason} ({text})"
        if outcome is Outcome.PASSED:
            return Outcome.UNEXPECTED, f"listed as a known difference, and it is none: {reason}"
        return outcome, text

    async def answers(self) -> bool:
        """Whether the service answers: one that has ended is given time to be started again."""
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._until_it_answers()
        except TimeoutError:
            return False
        return True

    async def _until_it_answers(self) -> None:
        while True:
            try:
                await Client(self._channel).version(seconds=_SILENCE_SECONDS)
            except CallError:
                await asyncio.sleep(0.1)
            else:
                return

    async def _restart(self) -> None:
        command = shlex.split(self._plan.restart)
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        except OSError as error:
            raise RuntimeError(f"the restart command cannot be run: {error.strerror}") from error
        async with asyncio.timeout(_RESTART_SECONDS):
            if await process.wait():
                raise RuntimeError(f"the restart command ended with {process.returncode}")
            await self._until_it_answers()

    async def tidy_up(self) -> None:
        """Remove what the last behaviour pulled: a node's disk is not filled, and lists do not become long.

        Where a service does not remove, that is left to the end: it must not take time after each.
        """
        if self._tidies and await self._remove(self._last, _TIDYING_SECONDS):
            self._tidies = False

    async def clean_up(self, seconds: float) -> tuple[str, ...]:
        """Remove what this run pulled and what came back; return what could not be removed, or was not tried.

        Args:
            seconds: without one removal that succeeds.
        """
        return await self._remove(self._published, seconds)

    async def _remove(self, published: Iterable[Published], seconds: float) -> tuple[str, ...]:
        left = dict.fromkeys(_names(published))
        names = iter(tuple(left))
        # As long as it goes on: a slow service has hundreds of images to remove.
        limit = asyncio.timeout(seconds)

        async def remove_some() -> None:
            for name in names:
                if await self._removed(name):
                    del left[name]
                    if not limit.expired():
                        limit.reschedule(asyncio.get_running_loop().time() + seconds)

        with contextlib.suppress(TimeoutError):
            async with limit, asyncio.TaskGroup() as group:
                for _ in range(_CLEANUP_CALLS):
                    group.create_task(remove_some())
        return tuple(left)

    async def _removed(self, name: str) -> bool:
        client = Client(self._channel)
        try:
            found = (await client.status(name)).image.id
            if found:
                with contextlib.suppress(CallError):
                    await client.remove(found)
                # Another name of the image may have been first.
                found = (await client.status(name)).image.id
        except CallError as error:
            # A name that the service takes for malformed is none of its images'.
            return error.status not in {Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED}
        return not found


def _names(published: Iterable[Published]) -> list[str]:
    names: dict[str, None] = {}
    for one in published:
        names.update(dict.fromkeys((*one.names, one.by_digest)))
    return list(names)
