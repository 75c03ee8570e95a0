"""Runs a command as on a terminal, and keeps what it shows."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

SECONDS = 30.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class Terminal:
    """A command's pseudo-terminal.

    Attributes:
        process: the command.
        output: everything it has written to the terminal.
        changed: set when there is more.
        finished: set when nothing more comes.
    """

    process: Process
    output: bytearray = field(default_factory=bytearray)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        """The output without colours and cursor movements."""
        return _ESCAPES.sub("", self.output.decode("utf-8", "replace"))

    async def shows(self, pattern: str) -> None:
        """Waits until the output matches."""
        try:
            async with asyncio.timeout(SECONDS):
                while not re.search(pattern, self.text):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in:\n{self.text}") from None

    async def ended(self) -> int:
        """Waits until the command has ended and all that it showed is here, and returns its exit code."""
        async with asyncio.timeout(SECONDS):
            code = await self.process.wait()
            await self.finished.wait()
        return code


@asynccontextmanager
async def on_a_terminal(*arguments: str, columns: int = 160, rows: int = 30) -> AsyncIterator[Terminal]:
    """Runs `criimage` with these arguments on a pseudo-terminal; kills it at the end of the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "criimage",
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    terminal = Terminal(process)
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            data = os.read(ours, 65_536)
        except OSError:  # the command has closed its side
            data = b""
        terminal.output += data
        terminal.changed.set()
        if not data:
            loop.remove_reader(ours)
            terminal.finished.set()

    loop.add_reader(ours, read)
    try:
        yield terminal
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        loop.remove_reader(ours)
        os.close(ours)
