"""Real Docker engines: `dockerd` in a folder of its own, in process and mount namespaces of its own.

When its first process ends, the kernel ends every other one and takes every mount away, so nothing can be left behind.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from parts.child import Child, child
from parts.daemon import Daemon
from parts.debian13 import debian13, unstable
from parts.engine_client import EngineClient
from parts.missing import need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_INSIDE = "/mnt"
_START_SECONDS = 60.0

# $1 the engine's folder, $2 an /etc/hosts or nothing; then dockerd's arguments.
_HERE = """
mount -t proc proc /proc
# 20.10 writes a key there, wherever its configuration is.
mkdir -p /etc/docker
mount -t tmpfs tmpfs /etc/docker
[ -z "$2" ] || mount --bind "$2" /etc/hosts
shift 2
exec dockerd "$@"
"""
# $1 the engine's folder, $2 an /etc/hosts or nothing, $3 the other system; then dockerd's arguments.
_ELSEWHERE = """
mount --bind "$3" "$3"
mount -t proc proc "$3/proc"
mount --rbind /sys "$3/sys"
mount --rbind /dev "$3/dev"
mount -t tmpfs tmpfs "$3/run"
mount -t tmpfs tmpfs "$3/tmp"
mount --bind "$1" "$3/mnt"
for file in hosts resolv.conf; do [ -e "$3/etc/$file" ] || : >"$3/etc/$file"; done
mount --bind "${2:-/etc/hosts}" "$3/etc/hosts"
mount --bind /etc/resolv.conf "$3/etc/resolv.conf"
root=$3
shift 3
exec chroot "$root" dockerd "$@"
"""


class Kind(enum.Enum):
    """An engine the tests know."""

    DEBIAN12 = "debian12"
    """20.10.24, API 1.41, with its graph driver."""
    DEBIAN13 = "debian13"
    """26.1.5, API 1.45, with its graph driver."""
    DEBIAN13_CONTAINERD = "debian13-containerd"
    """26.1.5 with the containerd image store, where an image's ID is its manifest's digest."""
    UNSTABLE = "unstable"
    """Whatever Debian's unstable has (28.5.2, API 1.51, when this was written), with its graph driver."""
    UNSTABLE_CONTAINERD = "unstable-containerd"
    """The same with the containerd image store."""

    @property
    def containerd_store(self) -> bool:
        """Whether images are kept by containerd."""
        return self in {Kind.DEBIAN13_CONTAINERD, Kind.UNSTABLE_CONTAINERD}

    @property
    def system(self) -> Path | None:
        """The root folder of the system it is part of; None for this machine's own."""
        if self is Kind.DEBIAN12:
            return None
        return unstable() if self in {Kind.UNSTABLE, Kind.UNSTABLE_CONTAINERD} else debian13()


STABLE = (Kind.DEBIAN12, Kind.DEBIAN13, Kind.DEBIAN13_CONTAINERD)
KINDS = tuple(Kind) if os.environ.get("TEST_UNSTABLE_ENGINE") == "1" else STABLE
"""The engines that every test is run with. Unstable's two are for the tests marked `newest` or `long`, and for all if a
variable asks for it: two engines more would take too long each time."""


@dataclass(slots=True)
class Engine(Daemon, EngineClient):
    """An engine.

    Attributes:
        kind: which one.
        folder: everything it writes.
        socket: where it listens.
        options: what dockerd is started with, besides its places.
        hosts: a file in place of /etc/hosts, for the engine alone; the machine's own if None.
        environment: variables that it gets besides ours.
    """

    kind: Kind
    folder: Path
    options: tuple[str, ...] = ()
    hosts: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _process: Child | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "docker.sock"

    @property
    def host(self) -> str:
        """`unix:///PATH`, for clients."""
        return f"unix://{self.socket}"

    def start(self, kind: Kind | None = None) -> None:
        """Starts it, with whatever it had before; returns when it answers.

        Args:
            kind: another engine to start on the same data, as an upgrade does.

        Raises:
            parts.child.StartError: it did not start.
        """
        self.kind = kind or self.kind
        # Files that would be taken for those of living processes: process IDs begin again in each namespace.
        for remnant in ("exec", "pid", "docker.sock"):
            path = self.folder / remnant
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        features = {"features": {"containerd-snapshotter": True}} if self.kind.containerd_store else {}
        (self.folder / "daemon.json").write_text(json.dumps(features))
        process = self._running.enter_context(child("dockerd", self._command(), self.folder / "log"))
        self._process = process
        process.wait_until(self.answers, seconds=_START_SECONDS)

    def _command(self) -> list[str | Path]:
        system = self.kind.system
        place = str(self.folder) if system is None else _INSIDE
        namespaces: list[str | Path] = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=SIGKILL",
            "--propagation",
            "private",
        ]
        before: list[str | Path] = [_HERE, "sh", self.folder, self.hosts or ""]
        if system is not None:
            before = [_ELSEWHERE, "sh", self.folder, self.hosts or "", system]
        return [
            *("env", *(f"{key}={value}" for key, value in self.environment.items())),
            *namespaces,
            *("sh", "-euc", *before),
            *("--bridge=none", "--iptables=false"),
            *(f"--data-root={place}/data", f"--exec-root={place}/exec", f"--pidfile={place}/pid"),
            *(f"--config-file={place}/daemon.json", f"--host=unix://{place}/docker.sock"),
            *self.options,
        ]

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            return self.ask("GET", "/_ping").status == http.client.OK
        except OSError:
            return False

    def lose(self, content: str) -> None:
        """Takes a blob out of its containerd store, by its digest, as a collection of garbage would."""
        address = f"--address={self.folder}/exec/containerd/containerd.sock"
        command = ["ctr", address, "--namespace=moby", "content", "rm", content]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def engine(
    kind: Kind,
    *,
    options: Sequence[str] = (),
    hosts: str = "",
    environment: Mapping[str, str] | None = None,
    started: bool = True,
) -> Iterator[Engine]:
    """Runs an engine until the block is left; everything it had is gone afterwards.

    Args:
        kind: which one; Debian 13's is made first where it has not been.
        options: more arguments for dockerd.
        hosts: the text of an /etc/hosts for it alone.
        environment: variables that it gets besides ours.
        started: whether it runs already when the block begins.

    Yields:
        the engine, which answers already if it is started.

    Raises:
        parts.child.StartError: it did not start.
    """
    need("unshare", *(["dockerd"] if kind is Kind.DEBIAN12 else []))
    need_root()
    folder = Path(tempfile.mkdtemp(prefix="criimage-engine-"))
    try:
        file = folder / "hosts" if hosts else None
        if file is not None:
            file.write_text(hosts)
        made = Engine(kind, folder, tuple(options), file, environment or {})
        with made._running:
            if started:
                made.start()
            yield made
    finally:
        shutil.rmtree(folder)
