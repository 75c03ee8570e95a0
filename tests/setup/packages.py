"""Installs the programs that tests and demo use, as packages of the machine's own distribution."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from setup.say import SetupError, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_POLICY_RC = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True, slots=True)
class Part:
    """Something that has to be on the machine.

    Attributes:
        sign: a command, or the absolute path of a file, that shows it is there. Whoever got it in another way than by
            our package keeps what they have.
        package: Debian's package of it.
    """

    sign: str
    package: str

    @property
    def present(self) -> bool:
        """Whether it is there."""
        return Path(self.sign).exists() if self.sign.startswith("/") else shutil.which(self.sign) is not None


DEMO = (
    Part("skopeo", "skopeo"),
    # Its package brings the policy without which skopeo copies nothing.
    Part("/etc/containers/policy.json", "golang-github-containers-common"),
    Part("docker-registry", "docker-registry"),
    Part("busybox", "busybox-static"),
)
"""What the demo needs."""

ROOTLESS = (Part("newuidmap", "uidmap"),)
"""What a user who is not root unpacks layers with."""

TESTS = (
    *DEMO,
    Part("containers-storage", "containers-storage"),
    Part("buildah", "buildah"),
    Part("podman", "podman"),
    # podman makes no container without a runtime, though it starts none here.
    Part("runc", "runc"),
    Part("containerd", "containerd"),
    Part("curl", "curl"),
    Part("ip", "iproute2"),
    Part("dockerd", "docker.io"),
    # Makes the Debian 13 whose newer engine the tests use besides.
    Part("debootstrap", "debootstrap"),
    *ROOTLESS,
    Part("openssl", "openssl"),
    # The manual and the units are checked by those who read them.
    Part("man", "man-db"),
    Part("mandoc", "mandoc"),
    Part("systemd-analyze", "systemd"),
    Part("zsh", "zsh"),
    Part("fish", "fish"),
    Part("promtool", "prometheus"),
    Part("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
)
"""What the whole test suite needs."""

LONG = (*TESTS, Part("chromium", "chromium"))
"""What the long runs need: the pages are looked at in a browser."""


def install(parts: Sequence[Part]) -> None:
    """Installs the parts that are missing; asks nothing and starts no service.

    Raises:
        SetupError: something is missing and cannot be installed from here; the text says what to do.
    """
    packages = [part.package for part in parts if not part.present]
    if packages:
        install_packages(packages)
        still = [part.sign for part in parts if not part.present]
        if still:
            raise SetupError(f"not there even after installing {' '.join(packages)}: {' '.join(still)}")


def install_packages(packages: Sequence[str]) -> None:
    """Installs Debian packages.

    Raises:
        SetupError: not root, not Debian, or apt-get failed.
    """
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        raise SetupError(f"missing, by the names of their Debian packages: {names}. Install them and try again.")
    if os.geteuid() != 0:
        raise SetupError(f"missing packages: {names}. Run this as root once, or: apt-get install {names}")
    say(f"installing {names}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another apt-get may be running, as on a machine that has just booted.
    base = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    with _no_services():
        for command in ([*base, "update"], [*base, "install", "--no-install-recommends", *packages]):
            try:
                subprocess.run(command, env=quiet, stdin=subprocess.DEVNULL, check=True)
            except subprocess.CalledProcessError as error:
                raise SetupError(f"{' '.join(command)} ended with {error.returncode}") from None


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    # docker-registry and containerd would start as services of the machine; the tests start their own.
    if _POLICY_RC.exists() or not _POLICY_RC.parent.is_dir():
        yield
        return
    _POLICY_RC.write_text("#!/bin/sh\nexit 101\n")
    _POLICY_RC.chmod(0o755)
    try:
        yield
    finally:
        _POLICY_RC.unlink()
