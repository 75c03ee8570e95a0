"""What a run says of itself: the parts it works with, and what went over the wire where a test failed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from criimage.cri.runtime.v1 import AuthConfig, ImageSpec, PullImageRequest
from parts import frames
from parts.raw_client import raw_client
from parts.serving import serving
from parts.versions import packages_in, version_in
from setup.environments import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "pass-word-planted"  # noqa: S105 - nobody has it
TOKEN = "token-planted-1"  # noqa: S105
_PULL = "/runtime.v1.ImageService/PullImage"
_FAILING = """
from parts.frames import Frames

def test_fails():
    Frames().headers("->", 5, [(":path", "/somewhere"), ("authorization", "Bearer planted-secret-0123456789")])
    assert False

def test_works():
    Frames().headers("->", 7, [(":path", "/elsewhere")])
"""


def test_a_run_names_its_parts_and_shows_the_frames_of_what_failed(tmp_path: Path) -> None:
    """The header has a line for each kind of part; a failed test's frames are printed, secrets masked, others' not."""
    (tmp_path / "test_planted.py").write_text(_FAILING)
    command = [sys.executable, "-m", "pytest", "-c", str(PROJECT / "pyproject.toml"), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "conftest", str(tmp_path)], cwd=PROJECT / "tests", capture_output=True, text=True, check=False
    )
    head, _, rest = done.stdout.partition("collected")
    for kind in ("tools: skopeo ", "engines: dockerd ", "registries: docker-registry ", "runtimes: containerd "):
        assert kind in head, done.stdout + done.stderr
    assert "clients: crictl " in head
    assert "trixie: " in head
    assert "frames of test_fails" in rest
    assert "1 -> stream 5: :path: /somewhere" in rest
    assert "planted-secret" not in rest.partition("frames of test_fails")[2]
    assert "/elsewhere" not in rest.partition("frames of test_fails")[2]


async def test_frames_show_a_pull_and_not_its_password(tmp_path: Path) -> None:
    """Both directions, the image's name and the status are there; what the AuthConfig had is nowhere."""
    auth = AuthConfig(username="somebody", password=PASSWORD, registry_token=TOKEN)
    request = bytes(PullImageRequest(image=ImageSpec(image="example.com/a:1"), auth=auth))
    async with serving(tmp_path) as server, raw_client(server.path) as client:
        await client.call(_PULL, request)
        refused = await client.call(_PULL, b"\x0a\x04\x0a\x02\xff\xff", {"x-note": PASSWORD})
        assert refused.status
    shown = frames.shown()
    for piece in (f"-> stream 1: :method: POST, :scheme: http, :path: {_PULL}", "example.com/a:1", "grpc-status: 0"):
        assert piece in shown
    assert "<- HEADERS stream 1" in shown
    assert "not to be read" in shown
    assert "x-note: …" in shown
    for secret in (PASSWORD, TOKEN):
        assert secret not in shown


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("skopeo version 1.9.3", "1.9.3"),
        ("Docker version 20.10.24+dfsg1, build 5d6db84", "20.10.24+dfsg1"),
        ("docker-registry github.com/docker/distribution 2.8.2+ds1", "2.8.2+ds1"),
        ("who knows", "?"),
    ],
)
def test_versions_are_found_in_answers(text: str, version: str) -> None:
    """Each program has its own sentence around its version."""
    assert version_in(text) == version


def test_packages_of_a_folder(tmp_path: Path) -> None:
    """They are read from its own list; where there is none, nothing is there."""
    assert packages_in(tmp_path, ("skopeo",)) == {}
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    status = "Package: skopeo\nVersion: 1.18\n\nPackage: other\nVersion: 2\n"
    (tmp_path / "var/lib/dpkg/status").write_text(status)
    assert packages_in(tmp_path, ("skopeo", "python3")) == {"skopeo": "1.18"}
