"""What systemd is told (sd_notify), and the watchdog."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from criimage.server import systemd
from parts.criimage_process import criimage
from pulls.clock import on_a_clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        yield receiver


def lines(receiver: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in receiver.recv(4096).decode().splitlines())


def test_a_servers_life_is_told(listening: socket.socket, tmp_path: Path) -> None:
    """READY once it serves, RELOADING with the time and READY again on SIGHUP, STOPPING on SIGTERM."""
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with criimage('backend = "memory"', environment=environment) as server:
        began = lines(listening)
        server.process.process.send_signal(signal.SIGHUP)
        reloading = lines(listening)
        reloaded = lines(listening)
        server.stop()
        stopping = lines(listening)

    assert began == {"READY": "1", "STATUS": "serving memory"}
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert reloaded == {"READY": "1", "STATUS": "settings reloaded"}
    assert stopping["STOPPING"] == "1"


def test_a_reload_that_fails_says_why(listening: socket.socket, tmp_path: Path) -> None:
    """After a bad reload the service is ready as before, and its status names the fault."""
    with criimage('backend = "memory"', environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
        lines(listening)
        server.config.write_text('backend = "memory"\nbackendd = 1\n')
        server.process.process.send_signal(signal.SIGHUP)
        lines(listening)
        told = lines(listening)

    assert told["READY"] == "1"
    assert "backendd: no such key" in told["STATUS"]


async def test_the_watchdog_beats(listening: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With WATCHDOG_USEC the event loop says that it turns."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    loop = asyncio.get_running_loop()
    listening.setblocking(False)
    async with systemd.watchdog():
        beats = [await asyncio.wait_for(loop.sock_recv(listening, 100), 20) for _ in range(2)]

    assert beats == [b"WATCHDOG=1"] * 2


@pytest.mark.parametrize("wanted", [30, 2])
def test_the_watchdog_beats_twice_in_its_time(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """sd_watchdog_enabled(3): a sign of life every half of WatchdogSec, the first at once; later is a restart."""
    monkeypatch.setenv("WATCHDOG_USEC", str(wanted * 1_000_000))
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    beats: list[tuple[float, str]] = []

    @on_a_clock
    async def live() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        monkeypatch.setattr(systemd, "notify", lambda *lines: beats.append((loop.time() - began, *lines)))
        async with systemd.watchdog():
            await asyncio.sleep(wanted * 1.75)

    live()
    assert beats == [(wanted * half / 2, "WATCHDOG=1") for half in range(4)]


@pytest.mark.parametrize(("microseconds", "process"), [("", ""), ("0", ""), ("soon", ""), ("20000", "another")])
async def test_nobody_who_does_not_watch_is_told(
    microseconds: str, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time, no time that can be meant, or a time for another process: not one beat."""
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    if process:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    else:
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
    beats: list[tuple[str, ...]] = []
    monkeypatch.setattr(systemd, "notify", lambda *lines: beats.append(lines))
    async with systemd.watchdog():
        for _ in range(20):
            await asyncio.sleep(0)
    assert beats == []


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NOTIFY_SOCKET, or one that nobody reads, is no error."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.ready("fine")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    systemd.ready("fine")
