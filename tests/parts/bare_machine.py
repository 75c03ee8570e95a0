"""A machine of a test's own with nothing on it: a copy of a bare Debian 12 in namespaces, on our own network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parts.apart import run_apart
from parts.booted import run_booted
from parts.debian13 import bare_debian12

if TYPE_CHECKING:
    from collections.abc import Iterator

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_THERE = "/srv/certificates.crt"
# As the machine's own apt and pip reach their indexes; certificates under a path that no package touches.
_REACH = ("/etc/pip.conf", "/etc/apt/apt.conf.d")
_PASSED = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "http_proxy",
    "https_proxy",
)
_CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_NO_SERVICES = "usr/sbin/policy-rc.d"

_ENTER = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
# No chroot: in one the kernel gives no user a namespace of their own, and rootless tools need one.
mkdir -p "$1/mnt/before"
cd "$1"
pivot_root . mnt/before
exec chroot . bash -c 'umount --lazy /mnt/before && rmdir /mnt/before && exec bash -c "$0"' "$2"
"""


@dataclass(frozen=True, slots=True)
class BareMachine:
    """A running one.

    Attributes:
        root: its root folder as seen from here.
    """

    root: Path

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Makes a file on it."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def trust(self, authority: Path) -> None:
        """Has its programs accept certificates of this one too."""
        with (self.root / _THERE.lstrip("/")).open("a") as known:
            known.write(authority.read_text())

    def run(self, script: str, *, folder: str = "/root", timeout: float = 1200) -> subprocess.CompletedProcess[str]:
        """Runs a script by bash as its root, echoed line by line; whatever it leaves running ends with it.

        Args:
            script: what to run; the first command that fails ends it.
            folder: where.
            timeout: seconds.
        """
        whole = f"set -eux\ncd {folder}\n{script}"
        return run_apart(_ENTER, str(self.root), whole, environment=_environment(), timeout=timeout)

    def boot(self, script: str, *, folder: str = "/root", timeout: float = 1200) -> tuple[int, str]:
        """Runs a script in the same way with a systemd as process 1, which it must have by then.

        Returns:
            the exit code, and what was shown.
        """
        # Services start with their packages here, as they do on any machine.
        (self.root / _NO_SERVICES).unlink(missing_ok=True)
        # Nor has what runs as a unit the environment of whoever types.
        known = "".join(f" {name}={_THERE}" for name in _CERTIFICATE_VARIABLES)
        self.write("/etc/systemd/system.conf.d/certificates.conf", f"[Manager]\nDefaultEnvironment={known}\n")
        with tempfile.TemporaryDirectory() as probe:
            files = Path(probe) / "files"
            files.mkdir()
            return run_booted(files, script, environment=_environment(), root=self.root, inside=folder, timeout=timeout)


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
        **dict.fromkeys(_CERTIFICATE_VARIABLES, _THERE),
    }


@contextmanager
def bare_machine() -> Iterator[BareMachine]:
    """A fresh one, gone afterwards. Skips, or fails where `CI=true`, if it cannot be made."""
    kept = bare_debian12()
    folder = Path(tempfile.mkdtemp(prefix="bare-machine-", dir="/var/tmp"))
    try:
        root = folder / "root"
        subprocess.run(["cp", "-a", str(kept), str(root)], check=True)
        for path in map(Path, _REACH):
            target = root / str(path).lstrip("/")
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            elif path.exists():
                shutil.copy(path, target)
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        (root / _THERE.lstrip("/")).write_bytes(CERTIFICATES.read_bytes() if CERTIFICATES.is_file() else b"")
        # No service is started by a package's installation while nothing here is process 1.
        policy = root / _NO_SERVICES
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        yield BareMachine(root)
    finally:
        shutil.rmtree(folder)
