#!/usr/bin/env python3
# ruff: noqa: S603 - it starts what its reader would
"""Measures what an idle criimage takes and how fast it answers, beside baselines in the same run.

    python docs/measure/idle.py

Needs what criimage itself needs, no root, no registry and no skopeo. Stores are made up in a temporary folder: records
and small files as skopeo writes them, without layers' contents, which lists and statuses do not look at.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.channel import CallError, Channel
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BARE_SERVER = Path(__file__).with_name("bare_server.py")
_RUNTIME = "/runtime.v1.RuntimeService"
_IMAGES = "/runtime.v1.ImageService"
_VERSION = f"{_RUNTIME}/Version"
_START_SECONDS = 30.0
_IDLE_SECONDS = 0.5
_MEBIBYTE = 1024.0


@dataclass(frozen=True, slots=True)
class Idle:
    """One start of a server.

    Attributes:
        seconds: from the start of the process to its first answer.
        mebibytes: resident memory half a second later.
    """

    seconds: float
    mebibytes: float


def main() -> None:
    """Measures and prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description="Measure an idle criimage beside baselines in the same run.")
    parser.add_argument("--starts", type=int, default=11, help="starts of each server")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="criimage-measure-") as name:
        folder = Path(name)
        _say(f"{_machine()}; medians of {arguments.starts} starts and of {arguments.calls} calls of each kind\n")
        asyncio.run(_measure(folder, arguments.starts, arguments.calls))


async def _measure(folder: Path, starts: int, calls: int) -> None:
    empty = _store(folder / "store-0", 0)
    servers = {
        "bare grpclib server": [sys.executable, str(_BARE_SERVER)],
        "criimage, memory": _serve(folder, "memory"),
        "criimage, containers-storage": _serve(folder, "containers-storage", empty),
    }
    await _compare_starts(folder, servers, starts)
    _say("")
    await _compare_calls(folder, calls)


async def _compare_starts(folder: Path, servers: dict[str, list[str]], starts: int) -> None:
    python: list[float] = []
    found: dict[str, list[Idle]] = {name: [] for name in servers}
    # In turn, so that a slow moment of the machine meets all of them.
    for _ in range(starts):
        python.append(_python_start())
        for name, command in servers.items():
            found[name].append(await _start(command, folder / "socket"))
    base = statistics.median(python)
    bare = _median(found["bare grpclib server"])
    _say("| process | first answer, ms | to `python -c pass` | to the bare server | memory, MiB | to the bare server |")
    _say("| --- | ---: | ---: | ---: | ---: | ---: |")
    _say(f"| `python -c pass`, until it ends | {base * 1000:.0f} | 1.0 | | | |")
    for name, runs in found.items():
        idle = _median(runs)
        ratios = f"{idle.seconds / base:.1f} | {idle.seconds / bare.seconds:.1f}"
        _say(
            f"| {name} | {idle.seconds * 1000:.0f} | {ratios} | {idle.mebibytes:.1f} "
            f"| {idle.mebibytes / bare.mebibytes:.2f} |"
        )


def _median(runs: Sequence[Idle]) -> Idle:
    return Idle(
        statistics.median(run.seconds for run in runs),
        statistics.median(run.mebibytes for run in runs),
    )


async def _compare_calls(folder: Path, calls: int) -> None:
    _say("| call | images | p50, ms | p99, ms | p50 to the bare server |")
    _say("| --- | ---: | ---: | ---: | ---: |")
    nothing = bytes(v1.ListImagesRequest())
    await _compare(folder, calls, _serve(folder, "memory"), {"Version, memory": (_VERSION, b"", "")})
    for count in (10, 100, 1000):
        store = _store(folder / f"store-{count}", count)
        status = v1.ImageStatusRequest(image=v1.ImageSpec(image="registry.example.com/team/app-0:1"))
        kinds = {
            "Version": (_VERSION, b"", ""),
            "Status": (f"{_RUNTIME}/Status", b"", ""),
            "ImageFsInfo": (f"{_IMAGES}/ImageFsInfo", b"", str(count)),
            "ImageStatus by tag": (f"{_IMAGES}/ImageStatus", bytes(status), str(count)),
            "ListImages": (f"{_IMAGES}/ListImages", nothing, str(count)),
        }
        if count > 10:  # the first two do not depend on the number of images
            del kinds["Version"], kinds["Status"]
        await _compare(folder, calls, _serve(folder, "containers-storage", store), kinds, count)


async def _compare(
    folder: Path, calls: int, command: list[str], kinds: dict[str, tuple[str, bytes, str]], count: int = 0
) -> None:
    place, bare_place = folder / "socket", folder / "bare-socket"
    bare_command = [sys.executable, str(_BARE_SERVER)]
    with _running(command, place), _running(bare_command, bare_place):
        async with Channel(place) as channel, Channel(bare_place) as bare:
            await _first_answer(channel)
            await _first_answer(bare)
            reply = await channel.unary(f"{_IMAGES}/ListImages", b"")
            if len(v1.ListImagesResponse().parse(reply).images) != count:
                raise RuntimeError("the server does not list the made-up store")
            for name, (path, request, images) in kinds.items():
                own, base = await _times(channel, path, request, bare, calls)
                p50, p99 = statistics.median(own), statistics.quantiles(own, n=100)[98]
                ratio = p50 / statistics.median(base)
                _say(f"| {name} | {images} | {p50 * 1000:.2f} | {p99 * 1000:.2f} | {ratio:.2f} |")


async def _times(
    channel: Channel, path: str, request: bytes, bare: Channel, calls: int
) -> tuple[list[float], list[float]]:
    own: list[float] = []
    base: list[float] = []
    for number in range(calls + calls // 10):
        for times, which, method, message in ((own, channel, path, request), (base, bare, _VERSION, b"")):
            began = time.perf_counter()
            await which.unary(method, message)
            if number >= calls // 10:  # the first tenth warms up
                times.append(time.perf_counter() - began)
    return own, base


def _python_start() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


async def _start(command: list[str], place: Path) -> Idle:
    began = time.perf_counter()
    with _running(command, place) as process:
        async with Channel(place) as channel:
            await _first_answer(channel)
            seconds = time.perf_counter() - began
            await asyncio.sleep(_IDLE_SECONDS)
        return Idle(seconds, _resident(process.pid))


async def _first_answer(channel: Channel) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            await channel.unary(_VERSION, b"", _START_SECONDS)
        except CallError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.002)
        else:
            return


def _resident(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _MEBIBYTE
    raise RuntimeError("the server has ended")


@contextlib.contextmanager
def _running(command: list[str], place: Path) -> Iterator[subprocess.Popen[bytes]]:
    place.unlink(missing_ok=True)
    # Settings of whoever measures stay out of it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRIIMAGE_")}
    process = subprocess.Popen([*command, f"unix://{place}"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _serve(folder: Path, backend: str, store: Path | None = None) -> list[str]:
    config = folder / "config.toml"
    config.touch()
    command = [sys.executable, "-m", "criimage", "serve", "--config", str(config), "--backend", backend]
    if store is not None:
        keys = {"root": str(store), "run_root": str(folder / "run"), "driver": "vfs", "tmp_dir": str(folder)}
        for key, value in keys.items():
            command += ["--set", f"backends.{backend}.{key}={value}"]
    return [*command, "--listen"]


def _store(root: Path, count: int) -> Path:
    """Makes up a store with `count` images of two layers each, one of them common to all."""
    images, layers = root / "vfs-images", root / "vfs-layers"
    for folder in (images, layers, root / "vfs" / "dir"):
        folder.mkdir(parents=True)
    base: dict[str, Any] = {"id": _hex("base"), "diff-digest": f"sha256:{_hex('base diff')}", "diff-size": 4_000_000}
    layer_records, image_records = [base], []
    for number in range(count):
        own = {
            "id": _hex(f"layer {number}"),
            "parent": base["id"],
            "diff-digest": f"sha256:{_hex(f'diff {number}')}",
            "diff-size": 1_000_000 + number,
        }
        layer_records.append(own)
        image_records.append(
            _image(images, number, [str(base["diff-digest"]), str(own["diff-digest"])], str(own["id"]))
        )
    (layers / "layers.json").write_text(json.dumps(layer_records))
    (images / "images.json").write_text(json.dumps(image_records))
    return root


def _image(images: Path, number: int, diff_ids: list[str], layer: str) -> dict[str, Any]:
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"User": "1000", "Cmd": ["/app"], "Labels": {"number": str(number)}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    identity = hashlib.sha256(config).hexdigest()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": f"sha256:{identity}",
                "size": len(config),
            },
            "layers": [],
        }
    ).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    folder = images / identity
    folder.mkdir()
    contents = {"manifest": manifest, f"manifest-{digest}": manifest, f"sha256:{identity}": config}
    for key, content in contents.items():
        (folder / _file_name(key)).write_bytes(content)
    return {
        "id": identity,
        "digest": digest,
        "names": [f"registry.example.com/team/app-{number}:1"],
        "layer": layer,
        "big-data-names": list(contents),
        "big-data-sizes": {key: len(content) for key, content in contents.items()},
        "big-data-digests": {key: f"sha256:{hashlib.sha256(content).hexdigest()}" for key, content in contents.items()},
        "created": "2020-01-01T00:00:00Z",
    }


def _file_name(key: str) -> str:
    plain = all(character.isdigit() or character.islower() or character == "." for character in key)
    return key if plain else "=" + base64.b64encode(key.encode()).decode()


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    return f"Python {platform.python_version()}, {os.cpu_count()} x {model}, Linux {platform.release()}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
