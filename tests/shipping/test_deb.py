"""Claims: the Debian packages install, upgrade and go away in a bare Debian of their release, as Debian's own do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from parts.bare_machine import bare_machine
from parts.missing import lacking, need_root
from setup.copyright import told
from setup.deb import RELEASES, Release, build_debs, maintainer, release_root
from setup.say import SetupError

_TRY = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
mkdir "$2/root/in"
mount --bind "$3" "$2/root/in"
mount -t proc proc "$2/root/proc"
mount --bind /dev "$2/root/dev"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 chroot "$2/root" sh -euxc '
everything() { find / -xdev | grep -Ev "^/(var|in|proc|run)/" | sort; }
everything >/in/before
dpkg -i /in/one.deb
criimage config check --backend memory
grep -q "^grpclib " /usr/share/doc/criimage/copyright
grep -q "^WantedBy=.*kubelet.service" /usr/lib/systemd/system/criimage.service
echo "backend = \\"memory\\"" >/etc/criimage/config.toml
criimage serve & server=$!
until criimage version >/in/version; do sleep 0.2; done
kill $server
wait $server
dpkg --force-confold -i /in/two.deb </dev/null
cp /etc/criimage/config.toml /in/kept
dpkg --remove criimage
cp /etc/criimage/config.toml /in/removed
dpkg --purge criimage
everything >/in/after
'
"""


_UNDER_SYSTEMD = """
apt-get install -y /root/one.deb
systemctl is-enabled criimage.service || true
echo 'backend = "memory"' >/etc/criimage/config.toml
systemctl enable --now criimage.service
criimage version
systemctl show -P MainPID criimage.service >/root/first
dpkg --force-confold -i /root/two.deb </dev/null
systemctl show -P MainPID criimage.service >/root/second
criimage version
ls /etc/systemd/system/k3s.service.wants/criimage.service
dpkg --remove criimage
test -z "$(systemctl list-units --no-legend --all 'criimage*')"
test -z "$(find /etc/systemd/system -name 'criimage*')"
pgrep -f criimage && exit 1
dpkg --purge criimage
test ! -e /etc/criimage
"""


def test_a_package_tells_every_licence() -> None:
    """Of each distribution that it brings, by name, version and text: here of all that this environment has."""
    text = "".join(told(Path(sys.prefix)))
    for name in ("betterproto", "click", "grpclib", "pydantic", "structlog"):
        assert f"\n{name} {version(name)}: " in text
    assert "Permission is hereby granted, free of charge" in text


def test_a_package_names_who_built_it() -> None:
    """As Debian's tools are told; else the project's authors, and never an address that is nobody's."""
    assert maintainer({}) == "The criimage developers"
    assert maintainer({"DEBFULLNAME": "Ada", "DEBEMAIL": "ada@example.org"}) == "Ada <ada@example.org>"
    assert maintainer({"DEBEMAIL": "ada@example.org"}) == "The criimage developers <ada@example.org>"


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_packages_life(tmp_path: Path, release: Release) -> None:
    """Installed it serves; changed settings outlive upgrade and removal; purged, every file is as before."""
    need_root()
    try:
        (built,) = build_debs([release])
    except SetupError as error:
        lacking(str(error))

    found = _lived(built, release_root(release), tmp_path)

    assert "criimage" in found["version"]
    assert found["kept"] == found["removed"] == 'backend = "memory"\n'
    # dpkg takes an empty /opt away with the last package in it, and the files are no package's.
    assert set(found["after"].splitlines()) | {"/opt"} == set(found["before"].splitlines()) | {"/opt"}


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(2400)
def test_a_packages_life_under_systemd() -> None:
    """Nothing starts by itself; an upgrade restarts what ran; removed, it is stopped and nobody wants it any more."""
    need_root()
    with bare_machine() as machine:
        try:
            (built,) = build_debs(RELEASES[:1])
        except SetupError as error:
            lacking(str(error))
        shutil.copy(built, machine.root / "root/one.deb")
        with tempfile.TemporaryDirectory() as work:
            shutil.move(_next_version(built, Path(work)), machine.root / "root/two.deb")
        prepared = machine.run("apt-get update && apt-get install -y systemd procps python3 ca-certificates")
        assert prepared.returncode == 0, prepared.stdout[-3000:]

        code, shown = machine.boot(_UNDER_SYSTEMD)

        assert code == 0, shown[-4000:]
        assert "\ndisabled\n" in shown
        first, second = ((machine.root / "root" / name).read_text().strip() for name in ("first", "second"))
        assert 0 < int(first) != int(second) > 0


def _lived(built: Path, root: Path, folder: Path) -> dict[str, str]:
    inside, memory = folder / "in", folder / "memory"
    inside.mkdir()
    memory.mkdir()
    shutil.copy(built, inside / "one.deb")
    shutil.move(_next_version(built, folder), inside / "two.deb")
    _run("unshare", "--mount", "sh", "-euc", _TRY, "sh", str(root), str(memory), str(inside))
    return {path.name: path.read_text() for path in inside.iterdir() if path.suffix != ".deb"}


def _next_version(built: Path, folder: Path) -> Path:
    """Makes one that has other defaults."""
    unpacked = folder / "unpacked"
    _run("dpkg-deb", "--raw-extract", str(built), str(unpacked))
    control = unpacked / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("Version: ", "Version: 1:"))
    with (unpacked / "etc" / "criimage" / "config.toml").open("a") as settings:
        settings.write("# another default\n")
    _run("dpkg-deb", "-Znone", "--build", str(unpacked), str(folder / "two.deb"))
    return folder / "two.deb"


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
