"""A real kubelet without a cluster: it runs the pods that lie in a folder, and tells how they are."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parts.child import Child, child, free_port
from parts.clients import kubelet as kubelet_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NODE = "node"
_NOTHING_LEFT = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")


@dataclass(frozen=True)
class Kubelet:
    """A running kubelet.

    Attributes:
        folder: everything it writes.
        port: where it tells how its pods are.
        process: the child process.
    """

    folder: Path
    port: int
    process: Child

    def put(self, name: str, image: str, policy: str) -> None:
        """Lets it run a pod of one container.

        Args:
            name: of the pod.
            image: what its container is made of; it must have a shell.
            policy: when the image is pulled: Always, IfNotPresent or Never.
        """
        container = {"name": "c", "image": image, "imagePullPolicy": policy, "command": ["sh", "-c", "sleep 36000"]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "hostNetwork": True,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
            },
        }
        # By rename: it reads the folder at any time.
        made = self.folder / f"{name}.new"
        made.write_text(json.dumps(pod))
        made.rename(self._manifests / f"{name}.json")

    def take_all(self) -> None:
        """Lets it end every pod."""
        for file in self._manifests.iterdir():
            file.unlink()

    @property
    def _manifests(self) -> Path:
        return self.folder / "manifests"

    def states(self) -> dict[str, tuple[str, str]]:
        """Every pod's state: `running` with its container's ID, or the reason it waits for with the text."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/pods", timeout=10) as answer:
                pods = json.load(answer)["items"] or []
        except OSError:
            return {}
        found = {}
        for pod in pods:
            for container in pod["status"].get("containerStatuses", []):
                found[pod["metadata"]["name"].removesuffix(f"-{NODE}")] = _state(container)
        return found


def _state(container: dict[str, Any]) -> tuple[str, str]:
    state = container.get("state", {})
    if "running" in state:
        return "running", container["containerID"]
    waiting = state.get("waiting", {})
    return waiting.get("reason", ""), waiting.get("message", "")


@contextlib.contextmanager
def kubelet(folder: Path, endpoint: str, credentials: Mapping[str, str] | None = None) -> Iterator[Kubelet]:
    """Runs a kubelet until the block is left; its pods stay the runtime's.

    Args:
        folder: an existing one.
        endpoint: `unix:///PATH` of its only socket.
        credentials: base64 of `USER:PASSWORD` by registry host or repository.
    """
    program, port = kubelet_program(), free_port()
    for name in ("manifests", "root"):
        (folder / name).mkdir()
    auths = {place: {"auth": text} for place, text in (credentials or {}).items()}
    (folder / "root/config.json").write_text(json.dumps({"auths": auths}))
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": endpoint,
        "staticPodPath": str(folder / "manifests"),
        "podLogsDir": str(folder / "logs"),
        "address": "127.0.0.1",
        "port": free_port(),
        "readOnlyPort": port,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "fileCheckFrequency": "500ms",
        "syncFrequency": "1s",
        # What a machine of tests does not have, or must not lose.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "evictionHard": dict.fromkeys(_NOTHING_LEFT, "0%"),
        "imageGCHighThresholdPercent": 100,
        "featureGates": {"KubeletInUserNamespace": True},
    }
    (folder / "kubelet.json").write_text(json.dumps(config))
    command = [
        # It mounts its folder onto itself.
        *("unshare", "--mount", "--propagation", "private", str(program)),
        f"--config={folder / 'kubelet.json'}",
        f"--root-dir={folder / 'root'}",
        f"--cert-dir={folder / 'certificates'}",
        f"--hostname-override={NODE}",
        "--v=2",
    ]
    with child("kubelet", command, folder / "log") as process:
        yield Kubelet(folder, port, process)
