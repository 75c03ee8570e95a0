"""A real kubelet whose only socket is criimage's, with a real containerd behind it."""

from __future__ import annotations

import base64
import sys
import time
from typing import TYPE_CHECKING

import pytest

from parts.child import child
from parts.kubelet import kubelet
from parts.one_socket import BUSYBOX, one_socket, shell_image
from parts.registry import registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from parts.kubelet import Kubelet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

RIGHT = "right"
PATIENCE = 60.0
"""Seconds; only there so that a failing test ends."""


def until(running: Kubelet, wanted: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, str]]:
    """Waits until every pod's state is one of those wanted, and returns state and text of each."""
    end = time.monotonic() + PATIENCE
    while True:
        states = running.states()
        if all(states.get(name, ("", ""))[0] in reasons for name, reasons in wanted.items()):
            return states
        assert running.process.process.poll() is None, running.process.log_text()[-4000:]
        assert time.monotonic() < end, f"{states}\n{running.process.log_text()[-4000:]}"
        time.sleep(0.2)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_kubelet_on_the_one_socket(tmp_path: Path) -> None:
    """Every pull policy, each way of failing with its reason, and criimage killed and started under it.

    Runtime and images over one endpoint (cri-protocol 2): no flag and no key for the image service is set.
    """
    with one_socket() as node, registry(username="user", password=RIGHT) as private:
        for repository in ("wrong/app", "right/app"):
            private.push(shell_image(), repository, "1")
        places = {"wrong": f"user:not {RIGHT}", "right": f"user:{RIGHT}"}
        credentials = {f"{private.address}/{place}": encoded(text) for place, text in places.items()}
        node.crictl("pull", BUSYBOX)
        absent = f"{node.images.address}/pause:3.9"
        with kubelet(tmp_path, node.server.endpoint, credentials) as running:
            running.put("always", BUSYBOX, "Always")
            running.put("if-not-present", BUSYBOX, "IfNotPresent")
            running.put("never", BUSYBOX, "Never")
            running.put("never-absent", absent, "Never")
            running.put("missing", f"{node.images.address}/none:1", "IfNotPresent")
            running.put("refused", "127.0.0.1:1/app:1", "IfNotPresent")
            running.put("right-secret", f"{private.address}/right/app:1", "Always")
            running.put("wrong-secret", f"{private.address}/wrong/app:1", "Always")
            failed = ("ErrImagePull", "ImagePullBackOff")
            states = until(
                running,
                {
                    **dict.fromkeys(("always", "if-not-present", "never", "right-secret"), ("running",)),
                    "never-absent": ("ErrImageNeverPull",),
                    "missing": failed,
                    "refused": ("RegistryUnavailable", "ImagePullBackOff"),
                    "wrong-secret": failed,
                },
            )
            texts = {name: text for name, (_, text) in states.items()}
            assert "not found" in texts["missing"]
            assert "RegistryUnavailable" in texts["refused"] or "registry is unavailable" in texts["refused"]
            assert "401 Unauthorized" in texts["wrong-secret"] or "authorization failed" in texts["wrong-secret"]
            containers = {text for state, text in states.values() if state == "running"}

            node.server.process.kill()
            assert all(
                one.removeprefix("containerd://")
                in node.crictl("ps", "-q", "--no-trunc", endpoint=node.runtime.endpoint)
                for one in containers
            )
            command = [sys.executable, "-m", "criimage", "serve", "--config", str(node.server.config)]
            again = [*command, "--listen", node.server.endpoint]
            with child("criimage", again, tmp_path / "again.log"):
                running.put("after", BUSYBOX, "Always")
                states = until(running, dict.fromkeys(("always", "if-not-present", "never", "after"), ("running",)))
                # The same containers: none was started again.
                assert containers < {text for _, text in states.values()}
                running.take_all()
                end = time.monotonic() + PATIENCE
                while node.crictl("ps", "-a", "-q"):
                    assert time.monotonic() < end, running.process.log_text()[-4000:]
                    time.sleep(0.2)
        node.crictl("rmp", "-f", "-a", endpoint=node.runtime.endpoint)
