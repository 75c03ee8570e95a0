"""Claims: the units do under a real systemd what the page says, which boots in namespaces on top of this root.

Everything it writes goes to a folder in memory on top of that root. Only what the probe asks for is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documentation.pages import PROJECT, blocks, page, sections
from parts.missing import lacking, need, need_root

SYSTEMD = Path("/lib/systemd/systemd")
CRIIMAGE = Path(sys.executable).with_name("criimage")

_BOOT = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
root="$1/root"
mkdir "$1/upper" "$1/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$root"
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
mkdir -p "$root/dev/shm" "$root/probe" "$root$3" "$root$4"
mount --bind "$2" "$root/probe"
mount --bind "$3" "$root$3"
mount --bind "$4" "$root$4"
# Not this machine's own services, whatever they are.
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/criimage"
ln -sf /dev/null "$root/etc/systemd/system/systemd-udevd.service"
cp "$root/probe/"*.service "$root/etc/systemd/system/"
mkdir -p "$root/etc/criimage"
echo 'backend = "memory"' >"$root/etc/criimage/config.toml"
chroot "$root" "$5" install >"$root/probe/installed"
chroot "$root" systemctl enable criimage.service criimage.socket 2>"$root/probe/enabled"
exec env -i container=test PATH="$PATH" chroot "$root" /lib/systemd/systemd --unit=probe.service --show-status=no
"""

_KUBELET = """
[Unit]
Description=In the place of a kubelet
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'systemctl is-active criimage.service >/probe/seen-by-kubelet'
"""

_PROBE = """
[Unit]
Description=Tries the units, then ends it all
# As every start of a machine has it: with the sockets.
Wants=basic.target
After=basic.target
[Service]
Type=oneshot
ExecStart=-/bin/sh /probe/probe.sh {command}
ExecStopPost=/bin/systemctl --force poweroff
"""

_SCRIPT = """
cd /probe
systemctl start kubelet.service
"$1" version >with-socket 2>&1
stat -c '%a %U %G' /run/criimage/criimage.sock >mode
systemctl reload criimage.service
# With Type=notify and a command that sends a signal, systemd does not wait for what comes of it.
for _ in $(seq 600); do
    systemctl show -P StatusText criimage.service >reloaded
    grep -q reloaded reloaded && break
    sleep 0.1
done
systemctl stop criimage.service 2>/dev/null
systemctl is-active criimage.service >stopped
test -S /run/criimage/criimage.sock && echo there >socket-stays
systemctl is-active criimage.socket >>socket-stays
"$1" version >activated 2>&1
systemctl stop criimage.socket criimage.service
systemctl start criimage.service
"$1" version >without-socket 2>&1
systemctl kill --signal=KILL --kill-whom=main criimage.service
while test "$(systemctl show -P NRestarts criimage.service)" = 0; do sleep 0.2; done
systemctl start criimage.service
"$1" version >after-a-kill 2>&1
# What the page tells to type where the service has run with a socket of its own.
sh -ex /probe/page.sh >page 2>&1 || echo Error
systemctl is-active criimage.socket criimage.service >from-the-page
"$1" version >served-from-the-page 2>&1
systemctl stop criimage.service
systemctl show -P Result criimage.service >result
"""


def _boot(folder: Path) -> dict[str, str]:
    """Boot, let the probe run, and return the files that it wrote."""
    probe, memory = folder / "probe", folder / "memory"
    probe.mkdir()
    memory.mkdir()
    (probe / "probe.sh").write_text(_SCRIPT)
    (probe / "page.sh").write_text("".join(blocks(sections(page("guide/systemd"))["Socket activation"], "sh")))
    (probe / "probe.service").write_text(_PROBE.format(command=CRIIMAGE))
    (probe / "kubelet.service").write_text(_KUBELET)
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--kill-child"]
    script = ["sh", "-c", _BOOT, "sh", str(memory), str(probe), str(PROJECT), str(Path(sys.prefix)), str(CRIIMAGE)]
    booted = subprocess.run(
        [*namespaces, *script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    found = {path.name: path.read_text().strip() for path in probe.iterdir()}
    if "result" not in found:
        found["log"] = booted.stdout[-2000:] + booted.stderr[-4000:]
    return found


@pytest.mark.engine
@pytest.mark.timeout(180)
def test_the_units_work_under_systemd(tmp_path: Path) -> None:
    """Started before the kubelet and by it, on systemd's socket and on its own, reloaded, killed, and ended well."""
    need("unshare", "systemd-analyze")
    need_root()
    if not SYSTEMD.exists() or shutil.which("systemctl") is None:
        lacking("needs systemd; Debian: systemd")
    if "overlay" not in Path("/proc/filesystems").read_text() or not os.access("/sys/fs/cgroup", os.R_OK):
        lacking("needs overlayfs and cgroups, which this kernel has not", also_in_ci=False)

    found = _boot(tmp_path)

    assert "log" not in found, found
    assert "kept       /etc/criimage/config.toml" in found["installed"]
    assert "kubelet.service.wants/criimage.service" in found["enabled"]
    assert found["seen-by-kubelet"] == "active"
    assert found["mode"] == "660 root root"
    assert found["reloaded"] == "settings reloaded"
    assert found["stopped"] == "inactive"
    assert found["socket-stays"].split() == ["there", "active"]
    assert found["from-the-page"].split() == ["active", "active"], found["page"]
    for name in ("with-socket", "activated", "without-socket", "after-a-kill", "served-from-the-page"):
        assert "criimage" in found[name], (name, found[name])
        assert "Error" not in found[name], (name, found[name])
    assert found["result"] == "success"
