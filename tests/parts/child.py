"""A child process with a log, that ends together with everything it started."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class StartError(RuntimeError):
    """A part ended, or did not answer in time, while it was being started; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running process in a process group of its own.

    Attributes:
        name: for messages.
        process: the process.
        log: what it writes to stdout and stderr.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id, also of its group."""
        return self.process.pid

    def log_text(self) -> str:
        """Everything it has written so far."""
        return self.log.read_text(errors="replace")

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Waits until it is ready.

        Args:
            ready: asked every few milliseconds.
            seconds: how long to wait at most.

        Raises:
            StartError: it ended or was not ready in time.
        """
        end = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                raise StartError(f"{self.name} ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
            if time.monotonic() > end:
                raise StartError(f"{self.name} did not answer in {seconds} s:\n{self.log_text()[-4000:]}")
            time.sleep(0.005)

    def terminate(self, *, seconds: float) -> int:
        """Asks it to end by SIGTERM.

        Args:
            seconds: how long to wait at most.

        Returns:
            its exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it has not ended.
        """
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kills the process and whatever is left of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def child(
    name: str, command: Sequence[str | Path], log: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Runs a command until the block is left, and kills its process group then.

    Args:
        name: for messages.
        command: the program and its arguments.
        log: where its output is appended.
        environment: variables on top of this process's own.

    Yields:
        the running process.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
        )
    running = Child(name, process, log)
    try:
        yield running
    finally:
        running.kill()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses, and that the kernel gives to nobody who asks for any.

    A port of the kernel's own range may go to a client's connection, or to another server, before the part listens.
    None is given twice.
    """
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _outside_the_kernels_range() -> Iterator[int]:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [port for port in range(11_000, 65_536) if not first <= port <= last]
    # Another run of the tests beside this one begins elsewhere.
    begin = secrets.randbelow(len(ports))
    yield from (*ports[begin:], *ports[:begin])


_ports = _outside_the_kernels_range()


@contextlib.contextmanager
def frozen(process: int) -> Iterator[None]:
    """Stops a process by SIGSTOP while the block runs: it keeps its connections and answers nothing."""
    os.kill(process, signal.SIGSTOP)
    try:
        # Its threads stop one after the other.
        while any(state != "T" for state in _thread_states(process)):
            time.sleep(0.001)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def _thread_states(process: int) -> list[str]:
    states = []
    for task in Path(f"/proc/{process}/task").iterdir():
        # One may end before it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return states
