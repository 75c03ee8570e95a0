"""Tells systemd how the service is (sd_notify): one datagram for each change, nothing without NOTIFY_SOCKET.

Written here because the protocol is one datagram and no kept library speaks it. With `Type=notify` the units that wait
for this one, such as kubelet's, start when the socket answers, and with `WatchdogSec=` a hung service is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.lasting import lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["notify", "ready", "reloaded", "reloading", "stopping", "watchdog"]


def notify(*lines: str) -> None:
    """Send `KEY=VALUE` lines in one datagram; a systemd that does not listen is no reason to fail."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(lines).encode(), address)


def ready(status: str) -> None:
    """Calls are answered from now on."""
    notify("READY=1", f"STATUS={status}")


def reloading() -> None:
    """The settings are being read again."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def reloaded(status: str) -> None:
    """The reload is over; `status` says how it went."""
    notify("READY=1", f"STATUS={status}")


def stopping() -> None:
    """No more calls are taken."""
    notify("STOPPING=1", "STATUS=stopping")


@asynccontextmanager
async def watchdog() -> AsyncIterator[None]:
    """Say regularly that the event loop still turns, if systemd wants to hear it (WatchdogSec)."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if not microseconds.isdecimal() or not meant or not int(microseconds):
        yield
        return
    seconds = int(microseconds) / 1e6 / 2
    async with lasting(lambda: _beat(seconds), "watchdog"):
        yield


async def _beat(seconds: float) -> None:
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds)
