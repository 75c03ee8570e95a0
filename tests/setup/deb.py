"""Builds Debian packages of criimage, one for each release of Debian, with all dependencies inside.

An environment in /opt/criimage holds the wheel and what it needs. It is made in a root folder of that release, since it
runs with that release's Python; what is downloaded is downloaded outside of it.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from setup.cache import cache_folder
from setup.environments import PROJECT, tools
from setup.packages import Part, install
from setup.say import SetupError, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["RELEASES", "Release", "build_debs", "maintainer", "release_root"]

_NEEDED = (Part("debootstrap", "debootstrap"), Part("unshare", "util-linux"), Part("dpkg-deb", "dpkg"))
_TAGS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1")


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian.

    Attributes:
        name: its code name.
        number: of the release.
        python: its Python.
    """

    name: str
    number: int
    python: str


RELEASES = (Release("bookworm", 12, "3.11"), Release("trixie", 13, "3.13"))

_MAKE = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
mkdir -p "$2/root/in"
mount --bind "$3" "$2/root/in"
mount -t proc proc "$2/root/proc"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="$4" chroot "$2/root" sh -euxc '
python3 -m venv /opt/criimage
pip="/opt/criimage/bin/python -m pip"
$pip install --quiet --no-index --find-links /in/wheels --require-hashes -r /in/requirements.txt
$pip install --quiet --no-index --no-deps /in/wheel/*.whl
$pip uninstall --quiet --yes pip setuptools wheel || true
mkdir -p /in/tree/opt /in/tree/usr/bin
# Whichever kubelet the machine will have: there is none here to be found.
before=$(/opt/criimage/bin/python -c "from criimage.shipping.units import KUBELETS
for unit in KUBELETS: print(\\"--before\\", unit)")
/opt/criimage/bin/criimage install --prefix /usr --root /in/tree $before
mkdir -p /in/tree/usr/share/doc/criimage
/opt/criimage/bin/python /in/copyright.py /opt/criimage >/in/tree/usr/share/doc/criimage/copyright
rm /in/tree/usr/share/criimage/installed.json
cp -a /opt/criimage /in/tree/opt/criimage
ln -s /opt/criimage/bin/criimage /in/tree/usr/bin/criimage
chown -R root:root /in/tree
dpkg-deb --build --root-owner-group /in/tree /in/out.deb
'
"""

_CONTROL = """\
Package: criimage
Version: {version}
Section: admin
Priority: optional
Architecture: {architecture}
Depends: python3 (>= {python}), python3 (<< {python_after}), ca-certificates
Recommends: skopeo
Maintainer: {maintainer}
Description: CRI image service for a Kubernetes node
 One service for the images of containers-storage, of a Docker Engine, or of
 another CRI runtime. Its Python dependencies come with it, in /opt/criimage.
"""

_SCRIPTS = {
    "postinst": """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    # An upgrade takes effect; nothing is started that was not running, and nothing enabled.
    if [ "$1" = configure ] && [ -n "$2" ]; then
        systemctl try-restart criimage.service || true
    fi
fi
""",
    "prerm": """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now criimage.socket criimage.service || true
fi
# What Python wrote beside its modules since.
find /opt/criimage -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
""",
    "postrm": """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
    # dpkg deletes the settings file itself; drop-ins are the administrator's configuration of this package too.
    rm -rf /etc/criimage
fi
""",
}


def build_debs(releases: Sequence[Release] = RELEASES, *, revision: int = 1) -> list[Path]:
    """Build the package of each release, in `build/deb`.

    Args:
        releases: which.
        revision: of the packages.

    Raises:
        SetupError: something is missing, or a step fails; the text says which.
    """
    if os.geteuid() != 0:
        raise SetupError("packages are built in root folders of Debian: run this as root")
    install(_NEEDED)
    output = PROJECT / "build" / "deb"
    output.mkdir(parents=True, exist_ok=True)
    return [_build(release, revision, output) for release in releases]


def release_root(release: Release) -> Path:
    """Return the root folder of a release with Python and what makes environments; made where there is none.

    Raises:
        SetupError: it cannot be made.
    """
    kept = cache_folder() / f"debian{release.number}-build-1"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_name(f"{kept.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            say(f"making a Debian {release.number} in {kept}")
            building = Path(tempfile.mkdtemp(prefix=f"{kept.name}-", dir=kept.parent))
            try:
                building.chmod(0o755)
                wanted = "--include=python3-venv,ca-certificates"
                _run("debootstrap", "--variant=minbase", wanted, release.name, str(building))
                building.rename(kept)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return kept


def _build(release: Release, revision: int, output: Path) -> Path:
    root = release_root(release)
    with tempfile.TemporaryDirectory(prefix="criimage-deb-") as name:
        work = Path(name)
        (work / "memory").mkdir()
        inside = work / "in"
        for folder in ("wheel", "wheels", "tree/DEBIAN"):
            (inside / folder).mkdir(parents=True)
        say(f"building the package for Debian {release.number}")
        uv = str(tools() / "uv")
        _run(uv, "build", "--quiet", "--wheel", "--out-dir", str(inside / "wheel"), str(PROJECT))
        requirements = inside / "requirements.txt"
        _run(
            uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project",
            "--extra", "docker", "--extra", "tracing", "--project", str(PROJECT), "--output-file", str(requirements),
        )  # fmt: skip
        _download(release, requirements, inside / "wheels")
        version = _wheel_version(inside / "wheel")
        shutil.copy(Path(__file__).with_name("copyright.py"), inside)
        _describe(inside / "tree" / "DEBIAN", release, f"{version}-{revision}~deb{release.number}")
        stamp = str(int((PROJECT / "pyproject.toml").stat().st_mtime))
        _run("unshare", "--mount", "sh", "-euc", _MAKE, "sh", str(root), str(work / "memory"), str(inside), stamp)
        package = output / f"criimage_{version}-{revision}~deb{release.number}_{_architecture()}.deb"
        shutil.move(inside / "out.deb", package)
    say(f"built {package}")
    return package


def _download(release: Release, requirements: Path, folder: Path) -> None:
    machine = platform.machine()
    tags = [word for tag in _TAGS for word in ("--platform", f"{tag}_{machine}")]
    _run(
        str(tools() / "python"), "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--require-hashes",
        "--python-version", release.python, "--implementation", "cp", *tags,
        "--dest", str(folder), "--requirement", str(requirements),
    )  # fmt: skip


def _describe(folder: Path, release: Release, version: str) -> None:
    major, minor = release.python.split(".")
    control = _CONTROL.format(
        version=version,
        architecture=_architecture(),
        python=release.python,
        python_after=f"{major}.{int(minor) + 1}",
        maintainer=maintainer(os.environ),
    )
    (folder / "control").write_text(control)
    (folder / "conffiles").write_text("/etc/criimage/config.toml\n")
    for name, text in _SCRIPTS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def maintainer(environment: Mapping[str, str]) -> str:
    """Return who a package names: whoever builds it, as Debian's own tools are told, else the project's authors."""
    name, address = environment.get("DEBFULLNAME", ""), environment.get("DEBEMAIL", "")
    if not name:
        authors = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["authors"]
        name = ", ".join(author["name"] for author in authors)
    return f"{name} <{address}>" if address else name


def _wheel_version(folder: Path) -> str:
    found = [re.fullmatch(r"criimage-([^-]+)-.*\.whl", path.name) for path in folder.iterdir()]
    versions = [match[1] for match in found if match]
    if len(versions) != 1:
        raise SetupError(f"not one wheel: {sorted(path.name for path in folder.iterdir())}")
    return versions[0]


def _architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise SetupError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stdout[-2000:]}")
