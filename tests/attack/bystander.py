"""Another client, in a process of its own: it lists images all the time and knows its longest wait.

    python -m attack.bystander SOCKET

For each line on standard input it prints the worst pause since the line before in seconds, how many calls were
answered, and how many were not.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from parts.raw_client import raw_client

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "/runtime.v1.RuntimeService/Version"
_PAUSE = 0.02


class Bystander:
    """The process; see `bystander`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def seen(self) -> tuple[float, int, int]:
        """Return the same, but after one more call at least, and 20 s at most."""
        end = time.monotonic() + 20
        worst, answered, failed = self.since()
        while not answered and not failed and time.monotonic() < end:
            time.sleep(_PAUSE)
            again, answered, failed = self.since()
            worst = max(worst, again)
        return worst, answered, failed

    def since(self) -> tuple[float, int, int]:
        """Return worst pause, answered and unanswered calls since it was asked before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        worst, answered, failed = self._process.stdout.readline().split()
        return float(worst), int(answered), int(failed)


@contextmanager
def bystander(socket: Path) -> Iterator[Bystander]:
    """Run the other client until the block is left."""
    tests = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "attack.bystander", str(socket)],
        cwd=tests,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            made = Bystander(process)
            made.since()
            yield made
        finally:
            process.kill()


class _Record:
    def __init__(self) -> None:
        self.worst, self.answered, self.failed = 0.0, 0, 0
        self.begun = time.monotonic()

    def take(self) -> str:
        # A call that has no answer yet is a pause as well.
        worst = max(self.worst, time.monotonic() - self.begun)
        text = f"{worst:.4f} {self.answered} {self.failed}"
        self.worst, self.answered, self.failed = 0.0, 0, 0
        return text


async def _ask(path: Path, record: _Record) -> None:
    while True:
        async with raw_client(path) as client:
            while not client.closed.is_set():
                record.begun = time.monotonic()
                answer = await client.call(VERSION)
                record.worst = max(record.worst, time.monotonic() - record.begun)
                if answer.status == 0:
                    record.answered += 1
                else:
                    record.failed += 1
                await asyncio.sleep(_PAUSE)
                record.begun = time.monotonic()


async def _main(path: Path) -> None:
    record = _Record()
    asking = asyncio.create_task(_ask(path, record))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(record.take(), flush=True)  # noqa: T201 - what it is for
        if asking.done():
            asking.result()
    asking.cancel()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
