#!/usr/bin/env python3
"""What a relayed call costs beside the same call made directly, as a ratio in one run.

`relay.py unix:///PATH` with the socket of a runtime that runs, such as containerd's; makes only calls that change
nothing. It starts a criimage of its own before the runtime, and asks both in turn, so that whatever else the machine
does hits both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METHODS = ("Version", "Status", "ListPodSandbox", "ListContainers")
_ROUNDS = 1500
_WARM = 200
_START_SECONDS = 20.0


@contextmanager
def _criimage(runtime: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="criimage-measure-") as folder:
        endpoint = f"unix://{folder}/criimage.sock"
        command = [sys.executable, "-m", "criimage", "serve", "--backend", "memory", "--listen", endpoint]
        command += ["--set", f'runtime.endpoint="{runtime}"', "--log-level", "error"]
        process = subprocess.Popen(command)  # noqa: S603 - our own program
        try:
            end = time.monotonic() + _START_SECONDS
            while not Path(folder, "criimage.sock").exists() and time.monotonic() < end:
                time.sleep(0.01)
            yield endpoint
        finally:
            process.terminate()
            process.wait()


def _seconds(call: Callable[[bytes], bytes]) -> float:
    start = time.perf_counter()
    call(b"")
    return time.perf_counter() - start


def _measure(runtime: str) -> None:
    sys.stdout.write("| call | direct p50, us | relayed p50, us | p50 to direct | fastest twentieth to direct |\n")
    sys.stdout.write("| --- | ---: | ---: | ---: | ---: |\n")
    with _criimage(runtime) as before, grpc.insecure_channel(runtime) as near, grpc.insecure_channel(before) as far:
        for method in _METHODS:
            path = f"/runtime.v1.RuntimeService/{method}"
            direct, relayed = (channel.unary_unary(path, bytes, bytes) for channel in (near, far))
            for _ in range(_WARM):
                direct(b"")
                relayed(b"")
            pairs = [(_seconds(direct), _seconds(relayed)) for _ in range(_ROUNDS)]
            p50 = [statistics.median(times) for times in zip(*pairs, strict=True)]
            fast = [sorted(times)[_ROUNDS // 20] for times in zip(*pairs, strict=True)]
            figures = f"{p50[0] * 1e6:.0f} | {p50[1] * 1e6:.0f} | {p50[1] / p50[0]:.2f} | {fast[1] / fast[0]:.2f}"
            sys.stdout.write(f"| {method} | {figures} |\n")


if __name__ == "__main__":
    _measure(sys.argv[1])
