"""Logs: one event a line, with the request it belongs to, and never a secret (ecosystem, conventions; T12)."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from click.testing import CliRunner

from criimage import logs
from criimage.cli import main
from operating.staged import CANARY, OWNER, PRIVATE, staged_server

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
        found = [event for event in events(server) if event["event"] not in {"serving", "stopping", "stopped"}]

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


@pytest.fixture
def text_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """This process's own logs as text, set up as a server's are."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.set_up("debug", "text")
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_value_cannot_forge_a_line(text_log: io.StringIO) -> None:
    """Whatever stands in a field or in a library's record stays on its line and off the operator's terminal."""
    structlog.get_logger().info("event", path="/a\x1b[2J\r\nforged", note="\x07", fine="ü")
    logging.getLogger("library").warning("said %s", "\x1b[31mx\nforged")

    lines = text_log.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "ü" in lines[0]


def test_a_traceback_shows_no_local_variables(text_log: io.StringIO) -> None:
    """T12: a frame's variables may hold a secret; files and lines are enough."""
    secret = f"{CANARY} in a variable"
    try:
        int(secret[:0])
    except ValueError:
        structlog.get_logger().exception("failed")

    assert "ValueError: invalid literal" in text_log.getvalue()
    assert secret not in text_log.getvalue()


def test_levels_change_while_running(text_log: io.StringIO) -> None:
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
