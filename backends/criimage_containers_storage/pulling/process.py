"""Running a tool so that a cancelled caller leaves nothing running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from criimage_containers_storage.finishing import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

__all__ = ["Outcome", "run"]

_TERM_SECONDS = 0.7
_GONE_SECONDS = 2.0
_GONE_LOOKS = 100
_LISTEN_SECONDS = 0.25
# A manifest has four megabytes at most; what a tool says about itself is worth its last lines.
_OUT_LIMIT = 16 << 20
_ERR_LIMIT = 256 << 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tool ended.

    Attributes:
        code: exit code, negative for a signal.
        out: standard output, its beginning if it is longer than any manifest.
        err: standard error as text, its end if it is long.
    """

    code: int
    out: bytes
    err: str


async def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
    patience: float | Callable[[], Coroutine[None, None, None]] = 0.0,
    started: Callable[[int], None] | None = None,
    heard: Callable[[str], None] | None = None,
    out: Path | None = None,
) -> Outcome:
    """Run a tool to its end, in a session of its own.

    It ends when its own process does: what that has left running in the background, such as a credential helper's
    agent, may hold its outputs for as long as it likes. Both go into memory, so that they cost nobody's disk.

    An error of `started` or `heard` is raised, and the tool is ended.

    Cancelling gives it `patience` seconds to end by itself, then stops it with all its children, first politely; the
    cancellation leaves only when all are gone.

    Args:
        command: program and arguments; never a secret among them.
        environment: all of the tool's.
        descriptors: open files that the tool inherits.
        patience: seconds, for what had better not be interrupted, or what ends when it may be.
        started: told the process ID, once.
        heard: told the end of what the tool has said on standard error, some times a second while that changes.
        out: an existing file that standard output is appended to; `Outcome.out` is empty then.

    Raises:
        FileNotFoundError: the program is not installed.
        OSError: `out` cannot be opened.
    """
    stop = asyncio.Event()
    life = asyncio.create_task(_live(command, environment, descriptors, stop, started, heard, out))
    try:
        return await asyncio.shield(life)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            waiting = asyncio.create_task(patience() if callable(patience) else asyncio.sleep(patience))
            await settled(asyncio.create_task(asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)))
            waiting.cancel()
            stop.set()
            await settled(asyncio.create_task(asyncio.wait({life})))
        # Whatever it ended with, nobody waits for it any more; looking at it keeps asyncio from complaining.
        if not life.cancelled():
            life.exception()
        raise


async def _live(
    command: Sequence[str],
    environment: Mapping[str, str],
    descriptors: Sequence[int],
    stop: asyncio.Event,
    started: Callable[[int], None] | None,
    heard: Callable[[str], None] | None,
    out_file: Path | None,
) -> Outcome:
    with contextlib.ExitStack() as stack:
        out = _opened(stack, out_file)
        err = _opened(stack, None)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=dict(environment),
            pass_fds=tuple(descriptors),
            start_new_session=True,
        )
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(stop.wait())
        try:
            if started is not None:
                started(process.pid)
            await _listen({ended, stopping}, err, heard)
            if not ended.done():
                await _end_group(process.pid, ended)
        except BaseException:
            # Whoever listens has failed, or the loop ends: nobody would stop it any more.
            _signal_group(process.pid, signal.SIGKILL)
            await asyncio.wait({ended}, timeout=_GONE_SECONDS)
            raise
        finally:
            stopping.cancel()
            ended.cancel()
        code = -signal.SIGKILL if process.returncode is None else process.returncode
        said = b"" if out_file is not None else os.pread(out, _OUT_LIMIT, 0)
        return Outcome(code, said, _end(err).decode("utf-8", "replace"))


async def _listen(over: set[asyncio.Task[Any]], err: int, heard: Callable[[str], None] | None) -> None:
    """Wait until one of these tasks is over, and pass on what the tool says meanwhile."""
    length = 0
    while not any(task.done() for task in over):
        timeout = None if heard is None else _LISTEN_SECONDS
        await asyncio.wait(over, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if heard is not None and os.fstat(err).st_size != length:
            length = os.fstat(err).st_size
            heard(_end(err).decode("utf-8", "replace"))


async def _end_group(leader: int, ended: asyncio.Task[int]) -> None:
    """Stop the tool with all its children, first politely."""
    _signal_group(leader, signal.SIGTERM)
    await asyncio.wait({ended}, timeout=_TERM_SECONDS)
    # The leader may be gone with a child left behind that unpacks a layer (T14).
    _signal_group(leader, signal.SIGKILL)
    await asyncio.wait({ended}, timeout=_GONE_SECONDS)
    await _gone(leader)


def _opened(stack: contextlib.ExitStack, file: Path | None) -> int:
    """Return a descriptor to write to, of a file or of memory that no directory names; closed with the stack."""
    if file is None:
        descriptor = os.memfd_create("output", os.MFD_CLOEXEC)
    else:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _end(descriptor: int) -> bytes:
    return os.pread(descriptor, _ERR_LIMIT, max(0, os.fstat(descriptor).st_size - _ERR_LIMIT))


async def _gone(leader: int) -> None:
    """Wait until nobody of the group is left, for a while; what was killed takes a moment to go."""
    for _ in range(_GONE_LOOKS):
        if not _lives(leader):
            return
        await asyncio.sleep(_GONE_SECONDS / _GONE_LOOKS)


def _lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return False
    # A zombie that nobody has collected yet counts for the kernel, but does nothing any more.
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, group = entry.read_text("ascii", "replace").rpartition(")")[2].split()[:3]
            if int(group) == leader and state != "Z":
                return True
    return False


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
