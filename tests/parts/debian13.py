"""Other Debians in folders, made by debootstrap once and kept in the cache: newer ones with tools, a bare one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from parts.missing import lacking, need, need_root
from setup.cache import cache_folder

_NAMES = {"trixie": "debian13-3", "sid": "debian-unstable-2", "bookworm": "debian12-bare-1"}
"""What the kept ones are called. Another number for every change of what one is made of: nobody's running tests lose
theirs."""

_FILL = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
cp /etc/resolv.conf "$1/etc/resolv.conf"
printf '#!/bin/sh\\nexit 101\\n' >"$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$1" apt-get -q -y -f install
# A mirror may have stood still for longer than unstable's lists are valid.
chroot "$1" apt-get -q -o Acquire::Check-Valid-Until=false update
chroot "$1" apt-get -q -y install --no-install-recommends docker.io ca-certificates skopeo python3
chroot "$1" apt-get clean
rm -rf "$1"/var/lib/apt/lists/* "$1/etc/resolv.conf"
"""
"""What turns debootstrap's result into a system with these programs; in a mount namespace that ends with it."""


def debian13() -> Path:
    """The root folder of a Debian 13 that has `dockerd`, `skopeo` and `python3`.

    It takes a minute or two where there is none yet.

    Skips, or fails where `CI=true`, if it cannot be made.
    """
    return _made("trixie")


def unstable() -> Path:
    """The same of Debian's unstable, as it was when it was made."""
    return _made("sid")


def bare_debian12() -> Path:
    """The root folder of a Debian 12 as debootstrap leaves it: nothing in it but what every Debian has."""
    return _made("bookworm")


def kept(release: str) -> Path:
    """Where the root folder of a release is kept, whether or not it has been made yet."""
    return cache_folder() / _NAMES[release]


def _made(release: str) -> Path:
    need("debootstrap", "unshare")
    need_root()
    root = kept(release)
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f"{root.name}.lock").open("w") as lock:
        # Several test runs may want it at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(root, release)
    return root


def _make(root: Path, release: str) -> None:
    building = Path(tempfile.mkdtemp(prefix=f"{root.name}-", dir=root.parent))
    try:
        # The folder of a system's root must be open to everybody, for its own users.
        building.chmod(0o755)
        mirror = [found] if (found := _mirror()) else []
        _run("debootstrap", "--variant=minbase", release, str(building), *mirror)
        if release != "bookworm":
            _run("unshare", "--mount", "--propagation", "private", "sh", "-euc", _FILL, "sh", str(building))
        building.rename(root)
    except subprocess.CalledProcessError as error:
        lacking(f"no Debian {release} can be made here: {error.cmd[0]} failed: {error.stdout[-600:]}")
    finally:
        if building.exists():
            shutil.rmtree(building)


def _run(*command: str) -> None:
    subprocess.run(
        command,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _mirror() -> str:
    """Where this machine gets its own Debian from, or nothing: then debootstrap knows a place."""
    form = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.CalledProcessError):
        return ""
    for line in listed.stdout.splitlines():
        fields = line.split()
        # Not the updates and not the security archive, which have their suites' names in a longer form.
        if len(fields) == 4 and fields[:2] == ["Debian", "main"] and "-" not in fields[2]:
            return fields[3]
    return ""
