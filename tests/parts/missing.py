"""What a test needs of the machine, and what becomes of it when that is not there.

On a developer's machine a missing part skips the test and says why. Where `CI=true` it fails the test, because there a
skipped test would be taken for a passed one.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import NoReturn

_PACKAGES = {
    "skopeo": "skopeo",
    "containers-storage": "containers-storage",
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "containerd": "containerd",
    "ip": "iproute2",
    "dockerd": "docker.io",
    "openssl": "openssl",
    "busybox": "busybox-static",
    "newuidmap": "uidmap",
    "man": "man-db",
    "systemd-analyze": "systemd",
    "chromium": "chromium",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}


def strict() -> bool:
    """Whether a missing part is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def need(*commands: str) -> None:
    """Skips or fails the running test, or a fixture's tests, unless these commands are installed.

    Args:
        commands: names to be found in PATH.
    """
    absent = [command for command in commands if not shutil.which(command)]
    if absent:
        packages = " ".join(_PACKAGES.get(command, command) for command in absent)
        lacking(f"not installed: {' '.join(absent)} (`make test` as root installs them; Debian: {packages})")


def need_root() -> None:
    """Skips or fails the running test unless it runs as root."""
    if os.geteuid() != 0:
        lacking("needs root: the store mounts and changes owners")


def lacking(reason: str, *, also_in_ci: bool = True) -> NoReturn:
    """Ends the running test for something that is missing.

    Args:
        reason: what is missing and how to get it.
        also_in_ci: whether it is a failure where `CI=true`.
    """
    if also_in_ci and strict():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
