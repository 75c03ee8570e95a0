#!/usr/bin/env python3
"""What the pull of an unchanged image costs, with skopeo kept up and without, as ratios in one run.

`unchanged.py IMAGE REGISTRIES_CONF [unix:///PATH]` with an image's full name, a registries.conf by which its registry
may be asked, and the socket of a runtime as the peer, which must be able to pull it. Two servers with stores of their
own and the runtime pull it in turn, so that whatever else the machine does hits all. Needs root.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = 61
_WARM = 3
_START_SECONDS = 20.0
_SECTION = """
backend = "containers-storage"
[backends.containers-storage]
root = "{folder}/root"
run_root = "{folder}/run"
driver = "vfs"
tmp_dir = "{folder}"
registries_conf = "{registries}"
policy = "{folder}/policy.json"
image_proxy = {kept_up}
"""


@contextmanager
def _criimage(registries: str, kept_up: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="criimage-measure-") as folder:
        config, endpoint = Path(folder, "config.toml"), f"unix://{folder}/criimage.sock"
        config.write_text(_SECTION.format(folder=folder, registries=Path(registries).absolute(), kept_up=kept_up))
        Path(folder, "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        command = [sys.executable, "-m", "criimage", "serve", "--config", str(config), "--listen", endpoint]
        process = subprocess.Popen([*command, "--log-level", "error"])  # noqa: S603 - our own program
        try:
            end = time.monotonic() + _START_SECONDS
            while not _answers(f"{folder}/criimage.sock") and time.monotonic() < end:
                time.sleep(0.01)
            yield endpoint
        finally:
            process.terminate()
            process.wait()


def _answers(path: str) -> bool:
    """Whether somebody listens; the socket's file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _field(data: bytes) -> bytes:
    """Return field 1 of a message, with these bytes."""
    length, size = len(data), b""
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return b"\x0a" + size + bytes([length]) + data


def _measure(image: str, registries: str, peer: str) -> None:
    with ExitStack() as stack:
        where = {"kept up": stack.enter_context(_criimage(registries, "true"))}
        where["a process each"] = stack.enter_context(_criimage(registries, "false"))
        if peer:
            where["the runtime"] = peer
        channels = {name: stack.enter_context(grpc.insecure_channel(endpoint)) for name, endpoint in where.items()}
        path, request = "/runtime.v1.ImageService/PullImage", _field(_field(image.encode()))
        calls = {name: channel.unary_unary(path, bytes, bytes) for name, channel in channels.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(_WARM + _ROUNDS):
            for name, call in calls.items():
                start = time.perf_counter()
                call(request)
                if number >= _WARM:
                    times[name].append(time.perf_counter() - start)
        base = statistics.median(times["the runtime" if peer else "a process each"])
        sys.stdout.write(
            "| pull of an unchanged image | p50, ms | middle half, ms | ratio |\n| --- | ---: | ---: | ---: |\n"
        )
        for name, found in times.items():
            first, p50, third = (value * 1e3 for value in statistics.quantiles(found, n=4))
            sys.stdout.write(f"| {name} | {p50:.1f} | {first:.1f} to {third:.1f} | {p50 / base / 1e3:.2f} |\n")


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
