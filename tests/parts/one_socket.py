"""A node whose one socket is criimage's: a registry, a real containerd with pods, and criimage before it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.testing.oci import Config, File, Image, Link, image, layer
from parts.clients import crictl
from parts.containerd import Containerd, containerd
from parts.criimage_process import Criimage, criimage
from parts.critest_images import HOSTS, push_all
from parts.missing import need
from parts.registry import Registry, registry

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSYBOX = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
"""An image with a shell that the node can pull."""

_HOST_NETWORK = 2


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        folder: for files of the test.
        images: the registry.
        runtime: the containerd.
        server: criimage.
    """

    folder: Path
    images: Registry
    runtime: Containerd
    server: Criimage

    def command(self, *arguments: str, endpoint: str = "") -> list[str]:
        """The command line of crictl at the one socket, or at another one."""
        place = f"--runtime-endpoint={endpoint or self.server.endpoint}"
        return [str(crictl()), "--config=/dev/null", "--timeout=20s", place, *arguments]

    def crictl(self, *arguments: str, endpoint: str = "") -> str:
        """Runs crictl, which must succeed, and returns what it prints."""
        command = self.command(*arguments, endpoint=endpoint)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"crictl {arguments}: {done.stderr}\n{self.server.log_text()[-3000:]}"
        return done.stdout.strip()

    def json(self, command: str, *arguments: str) -> Any:  # noqa: ANN401 - whatever crictl prints
        """Runs crictl, which must succeed, and returns the JSON that it prints."""
        return json.loads(self.crictl(command, "--output=json", *arguments))

    def run_pod(self, name: str = "pod") -> tuple[str, Path]:
        """Runs a pod in the host's network, and returns its ID and the file that describes it."""
        config = {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "attempt": 1},
            "log_directory": str(self.folder),
            "linux": {
                "cgroup_parent": "/k8s.io",
                "security_context": {"namespace_options": {"network": _HOST_NETWORK}},
            },
        }
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(config))
        return self.crictl("runp", str(file)), file

    def run_container(self, pod: str, pod_file: Path, script: str, name: str = "container") -> str:
        """Runs a shell script in a pod, and returns the container's ID."""
        config = {
            "metadata": {"name": name},
            "image": {"image": BUSYBOX},
            "command": ["sh", "-c", script],
            "log_path": f"{name}.log",
            "stdin": True,
            "linux": {},
        }
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(config))
        made = self.crictl("create", pod, str(file), str(pod_file))
        self.crictl("start", made)
        return made


def shell_image(*command: str) -> Image:
    """An image with a shell and `sleep` that runs a command."""
    files: dict[str, bytes | File | Link] = {"bin/busybox": File(_busybox(), 0o755)}
    files |= {f"bin/{name}": Link("busybox") for name in ("sh", "sleep")}
    return image(layer(files), config=Config(cmd=command))


def _busybox() -> bytes:
    return Path(shutil.which("busybox") or "").read_bytes()


@contextlib.contextmanager
def one_socket(more: str = "", *, system: Path | None = None) -> Iterator[Node]:
    """Runs such a node until the block is left.

    Args:
        more: TOML for criimage's core.
        system: where containerd is taken from, as `parts.containerd` has it.

    Yields:
        the node; no image but the pods' own has been pulled.
    """
    need("busybox", "docker-registry")
    folder = Path(tempfile.mkdtemp(prefix="criimage-node-"))
    try:
        with registry() as images:
            push_all(images, busybox=_busybox())
            # An image of its own: critest counts the names of those that it pulls.
            pause = images.push(shell_image("sleep", "36000"), "node/pause", "1")
            hosts = dict.fromkeys(HOSTS, images.address)
            with containerd(sandbox_image=pause, hosts=hosts, system=system) as runtime:
                # With this backend its runtime is the one that is relayed to.
                config = f'backend = "cri"\n{more}\n[backends.cri]\nendpoint = "{runtime.endpoint}"\n'
                with criimage(config) as server:
                    yield Node(folder, images, runtime, server)
    finally:
        shutil.rmtree(folder)
