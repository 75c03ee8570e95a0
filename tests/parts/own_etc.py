"""This machine with files of a test's own: what is written to its settings, stores and sockets is gone afterwards."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from parts.apart import run_apart
from parts.missing import need, need_root

if TYPE_CHECKING:
    import subprocess

# $1 a folder for what is written, $2 the script, $3 whether the network is its own.
_ENTER = """
if test "$3" = alone; then ip link set lo up; fi
mount -t tmpfs tmpfs "$1"
for place in /etc /usr/local; do
    mkdir -p "$1/upper$place" "$1/work$place"
    mount -t overlay overlay -o "lowerdir=$place,upperdir=$1/upper$place,workdir=$1/work$place" "$place"
done
mkdir -p /var/lib/containers "$1/home"
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/containers
cd "$1/home"
exec bash -c "$2"
"""


def typed(folder: Path, script: str, *, alone: bool = False, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs a script by bash as root, echoed line by line, in an empty folder; nothing of it goes on afterwards. Blocks.

    `/etc`, `/usr/local`, `/run` and the machine's own store of images are a copy or empty; criimage and the other
    programs are this machine's, and so is the network unless it is to be alone.

    Args:
        folder: an empty one, which stays empty.
        script: what to run; the first command that fails ends it.
        alone: whether it has a network of its own with nobody else in it, so that every port is free.
        timeout: seconds.

    Skips, or fails where `CI=true`, unless this is root on a machine with namespaces.
    """
    need_root()
    need("unshare", "mount", "skopeo", *(["ip"] if alone else []))
    environment = {
        "PATH": f"{folder}/bin:{Path(sys.executable).parent}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": f"{folder}/home",
        "LC_ALL": "C.UTF-8",
    }
    environment |= {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
    arguments = (str(folder), f"set -eux\n{script}", "alone" if alone else "")
    more = ("--net",) if alone else ()
    return run_apart(_ENTER, *arguments, environment=environment, timeout=timeout, more=more)
