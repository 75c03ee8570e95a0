"""The tests run by other Pythons: those of the Debians in folders, and others that this machine has.

In a folder nothing is fetched: the libraries, in the versions of uv.lock, come out of uv's cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parts.missing import lacking, need, need_root
from setup.environments import PROJECT, tools

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 3000.0

# $1 the other system's root, $2 a folder with everything that is needed, $3 uv's cache; then the tests.
_INSIDE = """
root=$1 work=$2 cache=$3
shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mount --bind "$work" "$root/mnt"
mkdir -p "$work/cache"
mount --bind "$cache" "$root/mnt/cache"
[ -e "$root/etc/hosts" ] || : >"$root/etc/hosts"
mount --bind /etc/hosts "$root/etc/hosts"
exec chroot "$root" /usr/bin/env -i PATH=/mnt/venv/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/mnt/home LC_ALL=C.UTF-8 \
    UV_CACHE_DIR=/mnt/cache UV_OFFLINE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never sh -euc '
    mkdir -p /mnt/home
    /mnt/uv venv -q --python /usr/bin/python3 /mnt/venv
    /mnt/uv pip install -q --python /mnt/venv/bin/python -r /mnt/requirements.txt
    /mnt/uv pip install -q --python /mnt/venv/bin/python --no-deps /mnt/wheel/*.whl
    cd /mnt/source
    exec python -m pytest -p no:cacheprovider -m "not engine and not long" "$@"' sh "$@"
"""
_PYTEST = ("pytest", "-p", "no:cacheprovider", "-m", "not engine and not long")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the tests went.

    Attributes:
        version: of the Python that ran them, as `3.13`.
        passed: how many passed.
        code: pytest's exit code.
        output: everything it said.
    """

    version: str
    passed: int
    code: int
    output: str


def run_tests(root: Path, folder: Path, tests: Sequence[str]) -> Outcome:
    """Runs quick tests with the Python of a Debian in a folder. Blocks.

    Args:
        root: of the other system, which stays as it is.
        folder: for what is needed; it should be empty.
        tests: paths from the project's folder.

    Returns:
        how they went.

    Raises:
        subprocess.CalledProcessError: the libraries cannot be had for that Python.
    """
    need("unshare", "mount", "chroot")
    need_root()
    uv = tools() / "uv"
    version = _version(root)
    _prepare(uv, folder, version)
    cache = subprocess.run([uv, "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-euc"]
    return _outcome(version, [*command, _INSIDE, "sh", str(root), str(folder), cache, *tests])


def run_tests_here(version: str, folder: Path, tests: Sequence[str]) -> Outcome:
    """The same with a Python of this machine that is not the one this runs on. Blocks.

    Args:
        version: as `3.12`.
        folder: for what is needed; it should be empty.
        tests: paths from the project's folder.

    Skips, in CI too, if the machine has none.
    """
    python = installed(version)
    if python is None:
        lacking(f"this machine has no Python {version}", also_in_ci=False)
    uv, own = tools() / "uv", folder / "venv" / "bin" / "python"
    _prepare(uv, folder, version)
    _uv(uv, "venv", "-q", "--python", str(python), str(folder / "venv"))
    _uv(uv, "pip", "install", "-q", "--python", str(own), "-r", str(folder / "requirements.txt"))
    (wheel,) = (folder / "wheel").glob("*.whl")
    _uv(uv, "pip", "install", "-q", "--python", str(own), "--no-deps", str(wheel))
    return _outcome(version, [str(own), "-m", *_PYTEST, *tests], folder / "source")


def installed(version: str) -> Path | None:
    """The program of a Python of this machine, in PATH or where pyenv keeps it; None if there is none that runs."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [Path(one) for one in (shutil.which(name),) if one]
    for path in [*found, *sorted(pyenv.glob(f"{version}.*/bin/{name}"))]:
        # A link of pyenv's may be there and lead to nothing.
        if subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0:
            return path
    return None


def _outcome(version: str, command: Sequence[str], folder: Path | None = None) -> Outcome:
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_SECONDS,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    return Outcome(version, int(passed[1]) if passed else 0, done.returncode, done.stdout)


def _version(root: Path) -> str:
    # A link to python3.13, or whatever it has.
    return os.readlink(root / "usr/bin/python3").removeprefix("python")  # noqa: PTH115 - the name, not the file


def _prepare(uv: Path, folder: Path, version: str) -> None:
    ignored = shutil.ignore_patterns(".venv", ".tox", ".git", ".*_cache", "__pycache__", "build", "dist", "_build")
    shutil.copytree(PROJECT, folder / "source", ignore=ignored)
    shutil.copy2(uv, folder / "uv")
    requirements = folder / "requirements.txt"
    chosen = ["--group", "test", "--group", "wire", "--all-extras", "--no-emit-project"]
    _uv(uv, "export", "-q", "--frozen", *chosen, "--no-default-groups", "-o", str(requirements))
    # Only to have them in the cache; a wheel for another Python can be fetched, and not be run.
    foreign = ["--python-version", version, "--target", str(folder / "fetched")]
    _uv(uv, "pip", "install", "-q", *foreign, "-r", str(requirements))
    shutil.rmtree(folder / "fetched")
    _uv(uv, "build", "-q", "--wheel", "-o", str(folder / "wheel"))


def _uv(uv: Path, *arguments: str) -> None:
    subprocess.run(
        [uv, *arguments], cwd=PROJECT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=_SECONDS
    )
