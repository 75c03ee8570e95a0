"""A skopeo whose proxy is not what we know: pulls do without it."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened, until
from containers_storage.test_image_proxy import Counted, running
from criimage.testing.oci import image, layer
from criimage_containers_storage.pulling import proxy
from parts.missing import need
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine

SMALL = image(layer({"etc/motd": b"hello"}))

# Real but for the proxy: $KIND of it is what a test asks for.
PROGRAM = """#!{python}
import array, json, os, socket, sys, time

if "experimental-image-proxy" not in sys.argv:
    os.execv("{skopeo}", sys.argv)
if "{kind}" == "no such verb":
    sys.exit('time="" level=fatal msg="unknown command"')
peer = socket.socket(fileno=int(sys.argv[sys.argv.index("--sockfd") + 1]))
read, write = os.pipe()


def answer(value, error="", pipe=0, files=()):
    packet = json.dumps({{"success": not error, "value": value, "error": error, "pipeid": pipe}}).encode()
    peer.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else [])


def serve(method):
    if method == "Initialize":
        if "{kind}" == "silent":
            time.sleep(60)
        return answer("0.3.0" if "{kind}" == "another version" else "0.2.3")
    if method == "OpenImage":
        if "{kind}" == "no JSON":
            return peer.send(b"\\xff{{")
        if "{kind}" == "a very long reply":
            return answer("x" * 100_000 * 3)
        if "{kind}" == "a pipe that nobody promised":
            return answer(1, files=[read])
        if "{kind}" == "ends":
            sys.exit(2)
        kind = "application/vnd.oci.image.manifest.v1+json"
        print(f'time="1" level=debug msg="Content-Type from manifest GET is \\\\"{{kind}}\\\\""', file=sys.stderr)
        sys.stderr.flush()
        return answer(1)
    if method == "GetManifest":
        if "{kind}" == "many pipes":
            return answer("sha256:" + "0" * 64, pipe=3, files=[read, read])
        if "{kind}" == "no digest":
            os.write(write, b"{{}}")
            return answer("sha256:0", pipe=3, files=[read])
        return answer("sha256:" + "0" * 64, pipe=3, files=[read])
    if method == "FinishPipe":
        if "{kind}" == "a pipe without end":
            return answer(None)
        os.close(write)
        return answer(None)
    if method == "CloseImage":
        return answer(None, error="no image 1" if "{kind}" == "cannot close" else "")


while packet := peer.recv(65536):
    serve(json.loads(packet)["method"])
"""
KINDS = [
    "no such verb",
    "another version",
    "silent",
    "no JSON",
    "a very long reply",
    "a pipe that nobody promised",
    "ends",
    "many pipes",
    "no digest",
    "a pipe without end",
    "cannot close",
]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_odd_proxy_is_left_alone(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does, the pull gets its answer the plain way; it is ended and not tried again at once (T17)."""
    need("skopeo")
    monkeypatch.setattr(proxy, "_QUICK_SECONDS", 0.5)
    program = tmp_path / "skopeo"
    program.write_text(PROGRAM.format(python=sys.executable, skopeo=shutil.which("skopeo"), kind=kind))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    counted = Counted(monkeypatch)
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - in the order they come
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            first = await under_test.pull(name)
            for _ in range(2):
                assert await under_test.pull(name) is first
                assert under_test.reports[-1].unchanged
            assert counted.both == (1, 2)
            await asyncio.to_thread(until, lambda: not running())
    # Fewer there are where something that another test had left has been collected meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208


async def test_a_manifest_that_only_a_process_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy cannot tell and says so: it is asked the next time again, for it works (T17)."""
    need("skopeo")
    program = tmp_path / "skopeo"
    told = PROGRAM.replace("vnd.oci.image.manifest.v1+json", "octet-stream")
    program.write_text(told.format(python=sys.executable, skopeo=shutil.which("skopeo"), kind="works"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    counted = Counted(monkeypatch)
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            first = await under_test.pull(name)
            assert await under_test.pull(name) is first
            assert counted.both == (1, 1)
            assert len(running()) == 1
