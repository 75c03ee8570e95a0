"""Running a tool so that a cancelled caller leaves nothing running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from criimage_containers_storage.finishing import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Outcome", "run"]

_TERM_SECONDS = 0.7
_GONE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tool ended.

    Attributes:
        code: exit code, negative for a signal.
        out: standard output.
        err: standard error as text.
    """

    code: int
    out: bytes
    err: str


async def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
    patience: float = 0.0,
    started: Callable[[int], None] | None = None,
    out: Path | None = None,
) -> Outcome:
    """Run a tool to its end, in a session of its own.

    Cancelling gives it `patience` seconds to end by itself, then stops it with all its children, first politely; the
    cancellation leaves only when all are gone.

    Args:
        command: program and arguments; never a secret among them.
        environment: all of the tool's.
        descriptors: open files that the tool inherits.
        patience: seconds, for what had better not be interrupted.
        started: told the process ID.
        out: an existing file that standard output is appended to; `Outcome.out` is empty then.

    Raises:
        FileNotFoundError: the program is not installed.
        OSError: `out` cannot be opened.
    """
    stop = asyncio.Event()
    life = asyncio.create_task(_live(command, environment, descriptors, stop, started, out))
    try:
        return await asyncio.shield(life)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            if patience:
                await settled(asyncio.create_task(asyncio.wait({life}, timeout=patience)))
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
    out_file: Path | None,
) -> Outcome:
    written = None if out_file is None else os.open(out_file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if written is None else written,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            pass_fds=tuple(descriptors),
            start_new_session=True,
        )
    finally:
        if written is not None:
            os.close(written)
    if started is not None:
        started(process.pid)
    talk = asyncio.create_task(process.communicate())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({talk, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not talk.done():
            _signal_group(process.pid, signal.SIGTERM)
            await asyncio.wait({talk}, timeout=_TERM_SECONDS)
            # The leader may be gone with a child left behind that unpacks a layer (T14).
            _signal_group(process.pid, signal.SIGKILL)
            await asyncio.wait({talk}, timeout=_GONE_SECONDS)
            if not talk.done():
                # Something that left the group, such as an agent of gpg, holds the pipes; the tool itself is gone.
                talk.cancel()
                return Outcome(-signal.SIGKILL, b"", "")
        out, err = await talk
    finally:
        stopping.cancel()
    return Outcome(
        process.returncode if process.returncode is not None else -1, out or b"", err.decode("utf-8", "replace")
    )


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
