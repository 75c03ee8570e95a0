"""Real containerds: one in a folder of its own, in process and mount namespaces of its own, pods included.

A first process holds the namespaces, so that containerd can be killed and started again while its pods run on. When
the holder ends, the kernel ends every other process and takes every mount away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from criimage import wire
from parts.child import Child, child
from parts.daemon import Daemon, first_child
from parts.missing import need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_START_SECONDS = 30.0

# Places that containerd, its shims and runc have whatever their configuration says. $1 the root folder of another
# system or nothing, $2 the folder of everybody's temporary files.
_HOLDER = """
if [ -n "$1" ]; then
    mount --bind "$1" "$1"
    mount --rbind /sys "$1/sys"
    mount --rbind /dev "$1/dev"
    mount -t tmpfs tmpfs "$1/run"
    mkdir -p "$1$2"
    mount --bind "$2" "$1$2"
    mount --bind /etc/resolv.conf "$1/etc/resolv.conf"
fi
mount -t proc proc "$1/proc"
for folder in "$1/run/containerd" "$1/run/netns" "$1/run/runc"; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
done
echo ready
sleep infinity &
while :; do wait; done
"""

_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [{disabled}]

[grpc]
address = "{folder}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox_image}"
{keys}

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{folder}/certs.d"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{folder}/cni/bin"
conf_dir = "{folder}/cni/conf"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{folder}/runc"

[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"

{more}
"""

_NOT_NEEDED = ("aufs", "btrfs", "devmapper", "zfs")

# A network that is none: enough for pods that talk to nobody, and needs no right to make interfaces.
_NO_NETWORK = """#!/bin/sh
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}' ;;
ADD) cat >/dev/null
    echo '{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "sandbox": "'"$CNI_NETNS"'"}],' \\
        '"ips": [{"version": "4", "address": "10.88.0.2/16", "interface": 0}]}' ;;
*) cat >/dev/null ;;
esac
"""
_NETWORK_CONFIG = '{"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}'

# What a machine without CAP_SYS_RESOURCE or without a hugetlb cgroup cannot do (peers-observed 1).
_RUNC = """#!/usr/bin/python3
import json, os, sys

arguments = sys.argv[1:]
if "create" in arguments and "--bundle" in arguments:
    path = os.path.join(arguments[arguments.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    if config["process"].get("oomScoreAdj", 0) < 0:
        del config["process"]["oomScoreAdj"]
    config.get("linux", {}).get("resources", {}).pop("hugepageLimits", None)
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("RUNC", ["runc", *arguments])
"""


@dataclass(slots=True)
class Containerd(Daemon):
    """A containerd with its CRI plugin.

    Attributes:
        folder: everything it writes.
        system: the root folder of the system it is part of; None for this machine's own.
    """

    folder: Path
    system: Path | None
    _holder: Child
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _process: Child | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "containerd.sock"

    @property
    def endpoint(self) -> str:
        """`unix:///PATH`, for clients."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Starts it, with whatever it had before; returns when it answers.

        Raises:
            parts.child.StartError: it did not start.
        """
        command = [
            *("nsenter", f"--target={first_child(self._holder.pid)}", "--mount", "--pid", "--"),
            *(() if self.system is None else ("chroot", str(self.system))),
            *("containerd", f"--config={self.folder / 'config.toml'}"),
        ]
        self._process = self._running.enter_context(child("containerd", command, self.folder / "log"))
        self._process.wait_until(self._serves, seconds=_START_SECONDS)

    def _serves(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self.socket)) != 0:
                return False
        # The socket listens a moment before the CRI plugin is ready to answer.
        return "Start streaming server" in self._log_of_this_start()

    def _log_of_this_start(self) -> str:
        return self.log_text().rpartition("starting containerd")[2]

    def clear(self) -> None:
        """Removes every image, over CRI: what others remove is seen there a moment later only."""
        for _, _, image in wire.fields(self.image_service("ListImages")):
            assert isinstance(image, bytes)
            identity = next(wire.text(value) for number, _, value in wire.fields(image) if number == 1)
            self.image_service("RemoveImage", wire.length_delimited(1, wire.text_field(1, identity)))

    def tag(self, image: str, name: str) -> None:
        """Gives an image another name as another client; returns when CRI knows it.

        Args:
            image: its ID.
            name: in full.
        """
        self.ctr("images", "tag", image, name)
        asked = wire.length_delimited(1, wire.text_field(1, name))
        end = time.monotonic() + _START_SECONDS
        while not self.image_service("ImageStatus", asked):
            assert time.monotonic() < end, f"CRI does not see {name}"
            time.sleep(0.005)

    def image_service(self, method: str, request: bytes = b"") -> bytes:
        """Makes one call of its ImageService, in bytes."""
        with grpc.insecure_channel(self.endpoint) as channel:
            call = channel.unary_unary(f"/runtime.v1.ImageService/{method}", bytes, bytes)
            answer: bytes = call(request, timeout=60)
        return answer

    def ctr(self, *arguments: str) -> str:
        """Runs containerd's own client in the namespace of pods, which must succeed, and returns what it prints."""
        command = ["ctr", f"--address={self.socket}", "--namespace=k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def containerd(
    *,
    sandbox_image: str = "127.0.0.1:1/pause:none",
    hosts: Mapping[str, str] | None = None,
    keys: str = "",
    more: str = "",
    started: bool = True,
    system: Path | None = None,
) -> Iterator[Containerd]:
    """Runs a containerd until the block is left; everything it had is gone afterwards.

    Registries at 127.0.0.1 are spoken to over plain HTTP.

    Args:
        sandbox_image: what pods begin with; see `parts.critest_images` for one that can run.
        hosts: registry hosts as names have them, to `HOST:PORT` where plain HTTP is spoken.
        keys: TOML for the table of the CRI plugin.
        more: TOML for other tables.
        started: whether it runs already when the block begins.
        system: the root folder of another system, whose containerd and runc are run; see `parts.debian13`.

    Yields:
        the containerd, which answers already if it is started.

    Raises:
        parts.child.StartError: it did not start.
    """
    need("unshare", "nsenter", *(["containerd", "runc"] if system is None else []))
    need_root()
    folder = Path(tempfile.mkdtemp(prefix="criimage-containerd-"))
    try:
        _furnish(folder, hosts or {}, system)
        disabled = ", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in _NOT_NEEDED)
        text = _CONFIG.format(folder=folder, disabled=disabled, sandbox_image=sandbox_image, keys=keys, more=more)
        (folder / "config.toml").write_text(text)
        namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--propagation", "private")
        holding = ["sh", "-euc", _HOLDER, "sh", system or "", folder.parent]
        with child("holder", [*namespaces, *holding], folder / "holder.log") as holder:
            holder.wait_until(lambda: "ready" in holder.log_text(), seconds=_START_SECONDS)
            made = Containerd(folder, system, holder)
            try:
                with made._running:
                    if started:
                        made.start()
                    yield made
            finally:
                # unshare waits for the namespaces' first process, and that one ends as the last of all in them.
                os.kill(first_child(holder.pid), signal.SIGKILL)
                holder.process.wait(_START_SECONDS)
    finally:
        _forget_cgroups(folder)
        shutil.rmtree(folder)


def _furnish(folder: Path, hosts: Mapping[str, str], system: Path | None) -> None:
    # Its path, as the file that stands for it has its name; Debian keeps it there.
    runc = "/usr/sbin/runc" if system is not None else shutil.which("runc") or "runc"
    scripts = {"runc": _RUNC.replace("RUNC", runc), "cni/bin/none": _NO_NETWORK}
    (folder / "cni/bin").mkdir(parents=True)
    (folder / "cni/conf").mkdir()
    (folder / "cni/conf/10-none.conflist").write_text(_NETWORK_CONFIG)
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    # containerd brings the loopback up by this plugin.
    (folder / "cni/bin/loopback").symlink_to("none")
    for host, address in hosts.items():
        place = folder / "certs.d" / host
        place.mkdir(parents=True)
        (place / "hosts.toml").write_text(
            f'server = "http://{address}"\n[host."http://{address}"]\ncapabilities = ["pull", "resolve"]\n'
        )


def _forget_cgroups(folder: Path) -> None:
    """Removes what killed pods leave in the cgroup trees, which are the machine's own."""
    plugin = folder / "root/io.containerd.grpc.v1.cri"
    names = [path.name for kind in ("sandboxes", "containers") for path in plugin.glob(f"{kind}/*")]
    for tree in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")):
        for name in names:
            for place in (tree / "k8s.io" / name, tree / "kubepods" / name):
                with contextlib.suppress(OSError):
                    place.rmdir()
        with contextlib.suppress(OSError):
            (tree / "k8s.io").rmdir()
