"""The command on real services: criimage on containers-storage, and a containerd that knows nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from parts.containerd import containerd
from parts.criimage_process import criimage, store_config
from parts.registry import registry
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


def judged(folder: Path, endpoint: str, *arguments: str) -> dict[str, Any]:
    """Run the command and return its JSON report."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "criimage", "conformance", "--endpoint", endpoint, "--json", str(report)]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(report.read_text())
    assert ended.returncode == found["exit_code"], ended.stdout + ended.stderr
    return found


def outcomes(report: dict[str, Any], outcome: str) -> list[str]:
    """The numbers that ended so."""
    return [one["number"] for one in report["results"] if one["outcome"] == outcome]


def test_containers_storage_does_everything(tmp_path: Path) -> None:
    """Every behaviour passes on a real store with skopeo, those of a restart apart."""
    with store(registries=insecure_registries("127.0.0.1")) as images, criimage(store_config(images)) as server:
        report = judged(tmp_path, server.endpoint)

    assert outcomes(report, "failed") == []
    assert outcomes(report, "not applicable") == ["X1", "X2", "X3"]
    assert report["exit_code"] == 0


def test_a_real_containerd_differs_as_is_known(tmp_path: Path) -> None:
    """Each of its differences is known, and each known one is still there."""
    with containerd() as runtime:
        report = judged(tmp_path, runtime.endpoint, "--hostile", "--known", "containerd-1.6")

    assert outcomes(report, "failed") + outcomes(report, "unexpected pass") + outcomes(report, "suite error") == []
    assert report["exit_code"] == 0


def test_a_registry_that_was_given(tmp_path: Path) -> None:
    """With a real registry the rest passes, and what needs a registry of ours is not applicable."""
    with registry() as hub, store() as images, criimage(store_config(images)) as server:
        report = judged(tmp_path, server.endpoint, "--registry", hub.address, "--only", "pull", "--only", "credentials")

    assert outcomes(report, "failed") == []
    assert {"P1", "P8", "P13"} <= set(outcomes(report, "passed"))
    assert {"P11", "C1"} <= set(outcomes(report, "not applicable"))
