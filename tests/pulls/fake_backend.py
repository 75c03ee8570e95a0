"""A backend whose pulls do what a test says, step by step."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from criimage.backend import Image, Phase, PullContext, PullProgress
from criimage.pulls.sharing import Pulls
from criimage.reference import DEFAULT_DOMAIN, ImageID, Name, Reference
from criimage.work import Work
from pulls.clock import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Backend, ProgressReporter
    from criimage.credentials import Credentials
    from criimage.errors import CriimageError
    from criimage.pulls.policy import PullPolicy
    from criimage.pulls.running import Pulled


@dataclass(slots=True, eq=False)
class Attempt:
    """One call of the backend's `pull`.

    Attributes:
        reference: of the call.
        credentials: of the call.
        context: of the call.
        report: of the call.
        stopping: set once it is cancelled.
        may_stop: the cancelled call ends when this is set; it is, at first.
        when_stopped: with this in place of the cancellation.
        end: what it ends with.
    """

    reference: Reference
    credentials: Credentials | None
    context: PullContext
    report: ProgressReporter
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    may_stop: asyncio.Event = field(default_factory=asyncio.Event)
    when_stopped: CriimageError | None = None
    end: asyncio.Future[Image] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def run(self) -> Image:
        """Ends as told."""
        try:
            return await asyncio.shield(self.end)
        except asyncio.CancelledError:
            self.stopping.set()
            await self.may_stop.wait()
            if self.when_stopped is not None:
                raise self.when_stopped from None
            raise

    @property
    def image(self) -> Image:
        """What it brings."""
        digest = hashlib.sha256(str(self.reference).encode()).hexdigest()
        named = (self.reference.with_digest(f"sha256:{digest}"),)
        return Image(ImageID(digest), (self.reference,), named)

    def downloading(self, done: int, total: int | None = None, activity: int = 0) -> None:
        """Reports so many bytes."""
        self.report(PullProgress(Phase.DOWNLOADING, done, total, activity=activity))

    def succeed(self) -> None:
        """Ends well."""
        self.end.set_result(self.image)

    def fail(self, error: BaseException) -> None:
        """Ends with an error."""
        self.end.set_exception(error)


class FakeBackend:
    """Resolves names to docker.io or what `meanings` says; its pulls wait for their end.

    Attributes:
        meanings: what a name means, where that is not just itself.
        attempts: every call of `pull`, the oldest first.
        reports_progress: as in the contract.
        resolve_error: raised by `resolve`.
    """

    def __init__(self) -> None:
        self.meanings: dict[str, tuple[str, ...]] = {}
        self.attempts: list[Attempt] = []
        self.reports_progress = True
        self.resolve_error: CriimageError | None = None

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Returns what the name means."""
        if self.resolve_error is not None:
            raise self.resolve_error
        if str(name) in self.meanings:
            return tuple(map(reference, self.meanings[str(name)]))
        return (name.qualified(name.domain or DEFAULT_DOMAIN),)

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        """Waits for the attempt's end."""
        attempt = Attempt(reference, credentials, context, report)
        attempt.may_stop.set()
        self.attempts.append(attempt)
        return await attempt.run()


@dataclass(frozen=True, slots=True)
class Setting:
    """Pulls on a fake backend.

    Attributes:
        pulls: what is tested.
        backend: below it.
        work: where they run.
    """

    pulls: Pulls
    backend: FakeBackend
    work: Work

    async def call(
        self, name: str, credentials: Credentials | None = None, namespace: str = "", pod: str = ""
    ) -> asyncio.Task[Pulled]:
        """Begins a call, and returns when it can do nothing more by itself."""
        asked = self.pulls.pull(Name.parse(name), credentials, PullContext(namespace, pod))
        task = asyncio.create_task(asked)
        await settle()
        return task

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt so far."""
        return self.backend.attempts

    def phases(self) -> list[str]:
        """The phase of every pull that runs."""
        return [view.progress.phase.value for view in self.pulls.running()]


@contextlib.asynccontextmanager
async def setting(policy: PullPolicy | None = None) -> AsyncIterator[Setting]:
    """Makes pulls on a fake backend, and ends them with the block."""
    backend = FakeBackend()
    async with Work() as work:
        made = Setting(Pulls(cast("Backend", backend), work, policy), backend, work)
        yield made
        for attempt in backend.attempts:
            attempt.may_stop.set()
        made.pulls.cancel_all()


def reference(text: str) -> Reference:
    """A reference as a test writes it."""
    return Reference.parse(text, DEFAULT_DOMAIN)


async def left(task: asyncio.Task[Pulled]) -> None:
    """Has a caller leave, and waits until it has."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
