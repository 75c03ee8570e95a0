"""Claims: the Debian packages install, upgrade and go away in a bare Debian of their release, as Debian's own do."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from parts.missing import lacking, need_root
from setup.deb import RELEASES, Release, build_debs, maintainer, release_root
from setup.say import SetupError

if TYPE_CHECKING:
    from pathlib import Path

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


def _lived(built: Path, root: Path, folder: Path) -> dict[str, str]:
    inside, unpacked, memory = folder / "in", folder / "unpacked", folder / "memory"
    inside.mkdir()
    memory.mkdir()
    shutil.copy(built, inside / "one.deb")
    # The next version, which has other defaults.
    _run("dpkg-deb", "--raw-extract", str(built), str(unpacked))
    control = unpacked / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("Version: ", "Version: 1:"))
    with (unpacked / "etc" / "criimage" / "config.toml").open("a") as settings:
        settings.write("# another default\n")
    _run("dpkg-deb", "-Znone", "--build", str(unpacked), str(inside / "two.deb"))
    _run("unshare", "--mount", "sh", "-euc", _TRY, "sh", str(root), str(memory), str(inside))
    return {path.name: path.read_text() for path in inside.iterdir() if path.suffix != ".deb"}


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
