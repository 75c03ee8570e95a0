"""Logs: one event a line, with the request it belongs to, and never a secret (ecosystem, conventions; T12)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from click.testing import CliRunner

from criimage import logs
from criimage.channel import Channel
from criimage.cli import main
from criimage.log_queue import LINES_LIMIT, LineQueue
from operating.staged import CANARY, OWNER, PRIVATE, installed, staged_server
from parts.criimage_process import STOP_SECONDS, listens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parts.criimage_process import Criimage

Until = "Callable[[Callable[[], object]], None]"


def ask(server: Criimage, *arguments: str, given: str = "") -> int:
    """Run a client command in this process; return its exit code."""
    return CliRunner().invoke(main, [*arguments, "--endpoint", server.endpoint], input=given).exit_code


def events(server: Criimage) -> list[dict[str, Any]]:
    """Every line of a server that logs JSON; fails if one is none."""
    found = [json.loads(line) for line in server.log_text().splitlines()]
    assert all(isinstance(event, dict) for event in found)
    return found


def test_every_line_is_one_json_object() -> None:
    """Design section 7: under --log-format json, whatever happens, a traceback of a fault included."""
    with staged_server(arguments=["--log-format", "json", "--log-level", "debug"]) as server:
        assert ask(server, "pull", "-q", "example.com/demo") == 0
        assert ask(server, "pull", "-q", "example.com/nope") == 1
        assert ask(server, "pull", "-q", "example.com/faulty") == 1
        assert ask(server, "images") == 0
        server.stop()
        log = server.log_text()

    found = [json.loads(line) for line in log.splitlines()]
    assert {"event", "level", "timestamp"} <= set.intersection(*(set(event) for event in found))
    assert (found[0]["event"], found[-1]["event"]) == ("serving", "stopped")
    (fault,) = (event for event in found if event["event"] == "fault in the backend")
    assert "RuntimeError: a fault of the backend" in fault["exception"]
    assert fault["level"] == "error"


def test_each_line_of_a_call_carries_its_request() -> None:
    """Ecosystem, libraries: who reads one line finds the others of the same call, and of no other call."""
    with staged_server("[log]\nlevel = 'debug'\nformat = 'json'") as server:
        for name in ("demo", "named"):
            ask(server, "pull", "-q", f"example.com/{name}")
        ask(server, "inspect", "example.com/demo")
        server.stop()  # a call's last line comes after its answer
        of_no_call = {"serving", "connected", "stopping", "stopped"}
        found = [event for event in events(server) if event["event"] not in of_no_call]

    assert all(event["request"] and event["operation"] for event in found)
    by_request: dict[str, list[str]] = {}
    for event in found:
        by_request.setdefault(event["request"], []).append(event["event"])
    pull = ["pull started", "pull finished", "call answered"]
    assert list(by_request.values()) == [pull, pull, ["call answered"]]
    named = {event["request"] for event in found if event.get("reference") == "example.com/named"}
    assert len(named) == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_reaches_the_log(log_format: str, until: Callable[[Callable[[], object]], None]) -> None:
    """T12: at debug level, over the wire, with pulls that succeed, fail, stall, meet a fault or cannot be decoded."""
    login = ["--username", OWNER.username, "--password-stdin"]
    token = f'[backends.staged]\ntoken = "{CANARY}-token"\n'
    with staged_server(token, arguments=["--log-level", "debug", "--log-format", log_format]) as server:
        assert ask(server, "pull", "-q", "example.com/private", *login, given=OWNER.password) == 0
        for name in ("private", "faulty", "nope", "Bad"):
            assert ask(server, "pull", "-q", f"example.com/{name}", *login, given=f"{CANARY}-wrong") == 1
        assert _pull_with_auth(server, f"{CANARY}!!") == "the auth field is not valid base64"
        with subprocess.Popen(
            [sys.executable, "-m", "criimage", "pull", "example.com/stalled", *login, "--endpoint", server.endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as client:
            assert client.stdin is not None
            client.stdin.write(f"{OWNER.password}\n".encode())
            client.stdin.flush()
            until(lambda: server.log_text().count("pull started") == 5)
            server.stop()
            client.communicate()
        log = server.log_text()

    assert str(PRIVATE.id) in log
    assert CANARY not in log


def _pull_with_auth(server: Criimage, auth: str) -> str:
    import asyncio

    from criimage.channel import CallError, Channel
    from criimage.cri.runtime import v1

    request = v1.PullImageRequest(image=v1.ImageSpec(image="example.com/demo"), auth=v1.AuthConfig(auth=auth))

    async def call() -> str:
        async with Channel(server.socket) as channel:
            with pytest.raises(CallError) as caught:
                await channel.unary("/runtime.v1.ImageService/PullImage", bytes(request))
            return caught.value.text

    return asyncio.run(call())


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_journald_gets_priorities_instead_of_times(log_format: str) -> None:
    """Ecosystem, log lines for journald: `<N>` on each line, those of a traceback too, and no time of our own."""
    arguments = ["--log-level", "debug", "--log-format", log_format]
    with staged_server(arguments=arguments, environment={"JOURNAL_STREAM": "8:1234"}) as server:
        ask(server, "pull", "-q", "example.com/demo")
        ask(server, "pull", "-q", "example.com/faulty")
        server.stop()
        lines = server.log_text().splitlines()

    assert all(re.match(r"<[3467]>", line) for line in lines)
    assert not any(re.search(r"\d\d:\d\d:\d\d", line) for line in lines)
    assert {line[1] for line in lines} >= {"3", "6", "4"}
    fault = [line for line in lines if "a fault of the backend" in line]
    assert fault
    assert all(line.startswith("<3>") for line in fault)


def test_a_clients_text_cannot_forge_a_line() -> None:
    """A name with line ends or terminal codes is shown escaped, within the line of its call."""
    with staged_server(arguments=["--log-level", "debug"]) as server:
        ask(server, "pull", "-q", "x\n2026-01-01T00:00:00Z [error] forged \x1b[2J")
        server.stop()
        lines = server.log_text().splitlines()

    assert any("forged" in line for line in lines)
    assert not any("forged" in line and "operation=PullImage" not in line for line in lines)
    assert "\x1b" not in "".join(lines)


class Written:
    """What this process has logged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def getvalue(self) -> str:
        """Everything so far."""
        logs.finish(10)
        return self._path.read_text()


@pytest.fixture
def text_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Written]:
    """This process's own logs as text, set up as a server's are."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with logging_to(tmp_path / "log") as path:
        yield Written(path)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[Path]:
    """Log to a file until the block is left."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    hooks = sys.unraisablehook, threading.excepthook
    with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
        logs.set_up("debug", "text", file.fileno())
        yield path
        logs.finish(10)
        root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    sys.unraisablehook, threading.excepthook = hooks
    structlog.reset_defaults()


def test_a_value_cannot_forge_a_line(text_log: Written) -> None:
    """Whatever stands in a field or in a library's record stays on its line and off the operator's terminal."""
    structlog.get_logger().info("event", path="/a\x1b[2J\r\nforged", note="\x07", fine="ü")
    logging.getLogger("library").warning("said %s", "\x1b[31mx\nforged")

    lines = text_log.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "ü" in lines[0]


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"),
    [(True, None, True), (True, "", True), (True, "1", False), (False, None, False)],
)
def test_colours_are_for_terminals_that_may_have_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terminal: bool, no_color: str | None, coloured: bool
) -> None:
    """Issue 14, A7: NO_COLOR counts for `serve` too, where it is not empty; a file never gets colours."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    with monkeypatch.context() as there:
        there.setattr(os, "isatty", lambda _descriptor: terminal)
        with logging_to(tmp_path / "log") as path:
            structlog.get_logger("test").info("said", key="value")
    text = path.read_text()
    assert "said" in text
    assert ("\x1b" in text) == coloured


def test_a_traceback_shows_no_local_variables(text_log: Written) -> None:
    """T12: a frame's variables may hold a secret; files and lines are enough."""
    secret = f"{CANARY} in a variable"
    try:
        int(secret[:0])
    except ValueError:
        structlog.get_logger().exception("failed")

    assert "ValueError: invalid literal" in text_log.getvalue()
    assert secret not in text_log.getvalue()


def test_levels_change_while_running(text_log: Written) -> None:
    """SIGHUP may change the level, also for loggers that have logged before."""
    log = structlog.get_logger("criimage.test")
    log.debug("first")
    logs.set_level("warning")
    log.info("second")
    log.warning("third")
    logging.getLogger("library").info("fourth")
    logs.set_level("debug")
    log.debug("fifth")

    assert re.findall("first|second|third|fourth|fifth", text_log.getvalue()) == ["first", "third", "fifth"]


def test_request_ids_are_unique() -> None:
    """They tell calls apart, across restarts of the server as well."""
    made = {logs.new_request_id() for _ in range(1000)}

    assert len(made) == 1000


@pytest.fixture
def stalled() -> Iterator[tuple[int, int]]:
    """Both ends of a full pipe that nobody reads yet."""
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * size)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_reader_that_stalls_stops_nobody(stalled: tuple[int, int]) -> None:
    """Lines beyond the bound are dropped and counted; a line tells so once there is room, and logging goes on."""
    reading, writing = stalled
    queue = LineQueue(writing)
    sent = 1 + LINES_LIMIT + 500
    for number in range(sent):
        queue.emit(logging.LogRecord("x", logging.INFO, "", 0, f"line {number}", None, None))
        while queue._lines and not number:
            time.sleep(0.001)  # the first one is on its way, and blocks the writer
    assert queue.dropped == 500
    taken = b""
    # It is told before the queue is written, so only all that was kept means that there is room again.
    while b"dropped" not in taken or taken.count(b"line ") < sent - 500:
        taken += os.read(reading, 2**16)
    queue.emit(logging.LogRecord("x", logging.INFO, "", 0, "afterwards", None, None))
    while b"afterwards" not in taken:
        taken += os.read(reading, 2**16)
    assert taken.count(b"line ") == sent - queue.dropped


@pytest.mark.parametrize("fault", ["closed", "full"])
def test_a_file_that_takes_nothing_is_no_error(fault: str) -> None:
    """EBADF, ENOSPC: the lines are counted as dropped, and nobody is the worse for it."""
    descriptor = os.open("/dev/full" if fault == "full" else os.devnull, os.O_WRONLY)
    if fault == "closed":
        os.close(descriptor)
        descriptor = 1_000_000
    queue = LineQueue(descriptor)
    queue.emit(logging.LogRecord("x", logging.INFO, "", 0, "lost", None, None))
    queue.finish(10)
    assert queue.dropped == 1


def test_a_record_that_cannot_be_formatted_is_still_a_line(text_log: Written) -> None:
    """A library's wrong arguments cost neither the line nor the call that logs."""
    (queue,) = (handler for handler in logging.getLogger().handlers if isinstance(handler, LineQueue))
    queue.emit(logging.LogRecord("library", logging.INFO, "", 0, "%d of them", ("many",), None))

    assert "could not be formatted: library" in text_log.getvalue()


def test_a_stalled_reader_leaves_the_server_serving_and_ending(tmp_path: Path, stalled: tuple[int, int]) -> None:
    """As `criimage serve 2>&1 | less` does it: 3,000 calls are answered while nobody reads, and SIGTERM ends it."""
    _, writing = stalled
    place = tmp_path / "s"
    with installed() as environment:
        command = [sys.executable, "-m", "criimage", "serve", "--backend", "staged", "--listen", f"unix://{place}"]
        with subprocess.Popen(
            [*command, "--log-level", "debug"], stderr=writing, env=os.environ | environment, start_new_session=True
        ) as process:
            while not listens(place):
                assert process.poll() is None
                time.sleep(0.01)
            assert asyncio.run(_versions(place, 3000)) == 3000
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0


async def _versions(place: Path, count: int) -> int:
    async with Channel(place) as channel:
        answers = [await channel.unary("/runtime.v1.RuntimeService/Version", b"") for _ in range(count)]
    return len([answer for answer in answers if answer])


_KEEPS_A_FILE = """
import importlib.util, os, sys, sysconfig
os.open(__file__, os.O_RDONLY)
folder = os.path.join(sysconfig.get_paths()["stdlib"], "ctypes")
spec = importlib.util.spec_from_file_location(
    "ctypes", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
)
sys.modules["ctypes"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["ctypes"])
"""
"""Stands before Python's ctypes, and keeps a file open as libffi does with its own since 3.5."""


@pytest.mark.parametrize("closed", [(0, 1, 2), (2,), (0,)])
def test_closed_descriptors_at_start_do_no_harm(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """`criimage serve 2>&-`: 0 to 2 are the null device then, no socket, no store's and no library's file."""
    place = tmp_path / "s"
    shell = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "ctypes.py").write_text(_KEEPS_A_FILE)
    with installed() as environment:
        environment["PYTHONPATH"] = f"{tmp_path}/before:{environment['PYTHONPATH']}"
        command = f"exec {sys.executable} -m criimage serve --backend staged --listen unix://{place} {shell}"
        with subprocess.Popen(["/bin/sh", "-c", command], env=os.environ | environment) as process:
            while not listens(place):
                assert process.poll() is None
                time.sleep(0.01)
            assert asyncio.run(_versions(place, 10)) == 10
            held = {number: str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in closed}
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0
    assert set(held.values()) == {os.devnull}
