"""A real systemd as process 1 of namespaces of a test's own, above a root folder: this machine's, or a bare one's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from parts.apart import run_apart
from parts.missing import lacking, need, need_root

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

THERE = "/probe"
"""Where the folder of files is for the script."""

_NAMESPACES = ("--cgroup", "--uts", "--ipc")

# $1 a place in memory, $2 the root folder, $3 the folder of files, then folders that are there under the same path.
_ENTER = """
mount -t tmpfs tmpfs "$1"
root="$1/root"
mkdir "$root"
if test "$2" = /; then
    mkdir "$1/upper" "$1/work"
    mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$root"
    # Not this machine's own services, settings and store, whatever they are.
    rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/criimage"
    mkdir -p "$root/var/lib/containers"
    mount -t tmpfs tmpfs "$root/var/lib/containers"
else
    mount --bind "$2" "$root"
fi
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/dev/shm" "$root/probe"
mount --bind "$3" "$root/probe"
files=$3
shift 3
for folder; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
done
# What would touch devices, which are this machine's.
for unit in systemd-udevd systemd-udev-trigger; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
cp "$root"/probe/*.service "$root/etc/systemd/system/"
if test -e "$root/probe/before"; then
    chroot "$root" sh -eux /probe/before >"$files/prepared" 2>&1
fi
exec env -i container=test PATH="$PATH" chroot "$root" /lib/systemd/systemd --unit=typed.service --show-status=no
"""

_TYPED = """
[Unit]
Description=Types what it was given, then ends it all
# As every start of a machine has it: with the sockets.
Wants=basic.target
After=basic.target
[Service]
Type=oneshot
WorkingDirectory={folder}
EnvironmentFile=/probe/environment
StandardOutput=append:/probe/shown
StandardError=inherit
ExecStart=/bin/bash -eux /probe/script
ExecStopPost=/bin/sh -c 'echo "$EXIT_STATUS" >/probe/ended'
ExecStopPost=/bin/systemctl --force poweroff
"""


_KUBELET = """
[Unit]
Description=In the place of a kubelet
[Service]
Type=oneshot
RemainAfterExit=yes
"""


def kubelet_unit(*starts: str) -> str:
    """A unit in the place of a kubelet's, which runs these commands when it is started."""
    return _KUBELET + "".join(f"ExecStart={one}\n" for one in starts)


def need_systemd(root: Path = Path("/")) -> None:
    """Skips, or fails where `CI=true`, unless a systemd can boot here.

    Args:
        root: where it is taken from.
    """
    need("unshare")
    need_root()
    if not (root / "lib/systemd/systemd").exists() or shutil.which("systemctl", path=str(root / "bin")) is None:
        lacking("needs systemd; Debian: systemd")
    if "overlay" not in Path("/proc/filesystems").read_text() or not os.access("/sys/fs/cgroup", os.R_OK):
        lacking("needs overlayfs and cgroups, which this kernel has not", also_in_ci=False)


def run_booted(
    folder: Path,
    script: str,
    *,
    environment: Mapping[str, str],
    root: Path = Path("/"),
    shared: Sequence[Path] = (),
    inside: str = "/root",
    timeout: float = 300,
) -> tuple[int, str]:
    """Boots, runs a script by bash as root, echoed line by line, and ends everything that was started. Blocks.

    Args:
        folder: what is there as `/probe`; its units (`*.service`) are installed before the boot, and its script
            `before` is run by sh then, if there is one; what that writes goes to `prepared`.
        script: what to run; the first command that fails ends it.
        environment: its variables.
        root: the root folder. Of this machine's nothing is changed, any other one is as the script leaves it.
        shared: folders that are there under the same path, as they are here.
        inside: the folder to run it in.
        timeout: seconds.

    Returns:
        the script's exit code, and what it has written to either output.

    Skips, or fails where `CI=true`, where no systemd can boot.

    Raises:
        AssertionError: it did not come to the script's end; with what systemd said.
        subprocess.TimeoutExpired: it took longer, and is gone with all it started.
    """
    need_systemd(root)
    memory = folder.with_name(f"{folder.name}-memory")
    memory.mkdir()
    (folder / "script").write_text(script)
    (folder / "environment").write_text("".join(f'{name}="{value}"\n' for name, value in environment.items()))
    (folder / "typed.service").write_text(_TYPED.format(folder=inside))
    arguments = [str(memory), str(root), str(folder), *map(str, shared)]
    outside = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    booted = run_apart(_ENTER, *arguments, environment=outside, timeout=timeout, more=_NAMESPACES)
    return _outcome(folder, booted)


def _outcome(folder: Path, booted: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    shown = (folder / "shown").read_text(errors="replace") if (folder / "shown").exists() else ""
    assert (folder / "ended").exists(), (booted.stdout[-4000:], shown[-2000:])
    ended = (folder / "ended").read_text().strip()
    # A signal's name, where one has ended it.
    return (int(ended) if ended.isdigit() else 1), shown
