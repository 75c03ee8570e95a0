"""The versions of skopeo that the tests know: the one installed here, and Debian 13's."""

from __future__ import annotations

import enum
import shlex
import subprocess
import tempfile
from typing import TYPE_CHECKING

from parts.debian13 import debian13
from parts.missing import need, need_root

if TYPE_CHECKING:
    from pathlib import Path

# $1 the other system's root; then skopeo's arguments. What the tests' files and skopeo's own are in looks the same from
# inside. It is one process all along, so its ID, its group and its signals are skopeo's.
_ELSEWHERE = """
root=$1
shift
mount --bind "$root" "$root"
for place in {places}; do
    mkdir -p "$root$place"
    mount --rbind "$place" "$root$place"
done
for file in /etc/hosts /etc/resolv.conf; do
    [ -e "$root$file" ] || : >"$root$file"
    mount --bind "$file" "$root$file"
done
# By its path: PATH leads to this very program first.
exec chroot "$root" /usr/bin/skopeo "$@"
"""
_PLACES = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/etc/containers")  # noqa: S108 - they are mounted


class Version(enum.Enum):
    """A skopeo."""

    HERE = "here"
    """What is installed on this machine: 1.9.3 on Debian 12."""
    DEBIAN13 = "debian13"
    """1.18.0, in mount namespaces of its own."""


def install(version: Version, folder: Path) -> Path | None:
    """Makes a version of skopeo callable; Debian 13's is made first where it has not been.

    Args:
        version: which one.
        folder: for a program `skopeo`, to be put first in PATH.

    Returns:
        the folder, or None for the skopeo that PATH leads to anyway.
    """
    need("skopeo")
    if version is Version.HERE:
        return None
    need("unshare", "mount", "chroot")
    need_root()
    root = debian13()
    places = dict.fromkeys((*_PLACES, tempfile.gettempdir()))
    script = _ELSEWHERE.format(places=" ".join(map(shlex.quote, places)))
    program = folder / "skopeo"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "skopeo", str(root)]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    return folder


def version_text() -> str:
    """The version of the skopeo that PATH leads to, such as `1.9.3`."""
    said = subprocess.run(["skopeo", "--version"], check=True, capture_output=True, text=True).stdout
    return said.split()[2]
