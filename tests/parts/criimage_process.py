"""`criimage serve` as its users run it: a process of its own on a unix socket, ended by SIGTERM."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parts.child import Child, child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from parts.store import Store

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by mkdtemp
"""Where the servers' own folders are, if it is there: a disk that stalls under other tests' images would keep log lines
back, and a server that has to end in time ends without them."""

_LOG_SECONDS = 30.0
STOP_SECONDS = 30.0
"""How long a server is waited for after SIGTERM. Its users are promised 5 s, which it keeps by leaving by force
(`criimage.server.signals`); what a busy machine adds to that is no fault of its."""


@dataclass(frozen=True, slots=True)
class Criimage:
    """A running server.

    Attributes:
        folder: its configuration, socket and log.
        socket: the unix socket's path.
        config: its configuration file, for tests that change it and reload.
        process: the child process.
    """

    folder: Path
    socket: Path
    config: Path
    process: Child

    @property
    def endpoint(self) -> str:
        """`unix:///PATH`, for clients."""
        return f"unix://{self.socket}"

    def log_text(self) -> str:
        """Everything it has logged so far; all of it only after `stop`, for its lines come after what they tell of."""
        return self.process.log_text()

    def wait_for_log(self, text: str, *, times: int = 1, since: int = 0) -> str:
        """Waits until its log has a text: lines are written by a thread of its own, on a disk that may stall.

        Args:
            text: to be found.
            times: how often.
            since: only behind so many characters.

        Returns:
            the log behind them.

        Raises:
            parts.child.StartError: it ended, or the text is not there in time.
        """
        self.process.wait_until(lambda: self.log_text()[since:].count(text) >= times, seconds=_LOG_SECONDS)
        return self.log_text()[since:]

    def reload(self) -> None:
        """Tells it to read its configuration again; it says in its log when it has."""
        self.process.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ends it as a service manager does.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
            AssertionError: it ended with an error, or left its socket.
        """
        code = self.process.terminate(seconds=STOP_SECONDS)
        assert code == 0, f"criimage ended with {code}:\n{self.log_text()[-4000:]}"
        assert not self.socket.exists(), "criimage left its socket behind"


@contextlib.contextmanager
def criimage(
    config: str, *, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None, seconds: float = 45.0
) -> Iterator[Criimage]:
    """Runs `criimage serve` until the block is left, and then sees it end in time and without an error.

    A block that is left by an exception kills the server: its own failure is the one to report. So does a block that
    has stopped it already.

    Args:
        config: the text of its configuration file, TOML, without `listen`; see `store_config`.
        arguments: more of them for the command line.
        environment: variables on top of this process's own.
        seconds: how long it may take to listen.

    Yields:
        the server, which listens already.

    Raises:
        parts.child.StartError: it did not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="criimage-server-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None))
    try:
        place, file = folder / "criimage.sock", folder / "config.toml"
        file.write_text(config)
        command = [sys.executable, "-m", "criimage", "serve", "--config", str(file), "--listen", f"unix://{place}"]
        with child("criimage", [*command, *arguments], folder / "log", environment=environment) as process:
            process.wait_until(lambda: listens(place), seconds=seconds)
            server = Criimage(folder, place, file, process)
            yield server
            if process.process.poll() is None:
                server.stop()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def restarting(server: Criimage) -> Iterator[str]:
    """Makes a command that ends the server and starts it again as often as it is run; ends the last one at the end.

    Yields:
        the command, as `criimage conformance --restart` takes it.
    """
    script, current = server.folder / "restart.sh", server.folder / "pid"
    current.write_text(str(server.process.process.pid))
    serve = [sys.executable, "-m", "criimage", "serve", "--config", str(server.config), "--listen", server.endpoint]
    # A server that ended has removed its socket and its lock; its process may be a zombie until this one looks.
    there = f"[ -e {server.socket} ] || [ -e {server.socket}.lock ]"
    stop = f'kill "$(cat {current})"; while {there}; do sleep 0.05; done'
    script.write_text(f"{stop}\n{shlex.join(serve)} >>{server.folder}/log 2>&1 </dev/null &\necho $! >{current}\n")
    try:
        yield f"sh {script}"
    finally:
        if current.read_text().strip() != str(server.process.process.pid):
            subprocess.run(["sh", "-c", stop], check=True, timeout=STOP_SECONDS)


def store_config(store: Store, *, more: str = "", keys: str = "") -> str:
    """The configuration of a server on a store of the tests.

    Args:
        store: the store.
        more: TOML for the top level and the core's tables.
        keys: TOML for the backend's own table.
    """
    paths = {
        "root": store.root,
        "run_root": store.run_root,
        "registries_conf": store.registries_conf,
        "policy": store.policy,
        "tmp_dir": store.tmp,
    }
    # A JSON string is a TOML string as long as it has nothing but plain characters, as these paths do.
    section = "".join(f"{name} = {json.dumps(str(path))}\n" for name, path in paths.items())
    driver = f"driver = {json.dumps(store.driver)}\n"
    return f'backend = "containers-storage"\n{more}\n[backends.containers-storage]\n{section}{driver}{keys}\n'


def listens(place: Path) -> bool:
    """Whether somebody listens at a unix socket: its file is there a moment before that."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(place)) == 0
