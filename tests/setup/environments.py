"""Python environments: one with the tools that run the tests, one with the project for the demo."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from setup.cache import cache_folder
from setup.packages import install_packages
from setup.say import SetupError, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).parent.parent.parent
"""The project's folder."""

_TOOLS = ("tox>=4.30,<5", "tox-uv-bare>=1.29,<2", "uv>=0.9,<1")


def tools() -> Path:
    """The `bin` folder of an environment with tox and uv, made or mended where needed.

    It lies in the user's cache, one for each Python, so that a fresh clone starts at once.

    Raises:
        SetupError: it cannot be made.
    """
    name = f"tools-{sys.version_info.major}.{sys.version_info.minor}"
    return environment(cache_folder() / name, _TOOLS, check="import tox, tox_uv, uv")


def project() -> Path:
    """The `bin` folder of an environment with the project itself, editable, made or mended where needed.

    Raises:
        SetupError: it cannot be made.
    """
    described = hashlib.sha256((PROJECT / "pyproject.toml").read_bytes()).hexdigest()
    packages = ("--editable", str(PROJECT))
    return environment(PROJECT / "build" / "venv", packages, check="import criimage", mark=described)


def environment(folder: Path, packages: Sequence[str], *, check: str, mark: str = "") -> Path:
    """The `bin` folder of an environment with these packages, made or mended where needed.

    Args:
        folder: where it is; whatever is there and does not work is replaced.
        packages: what pip is to install.
        check: a statement that works where the installation is whole.
        mark: what else the installation depends on.

    Raises:
        SetupError: it cannot be made.
    """
    stamp = folder / "installed"
    wanted = "\n".join((sys.version, *packages, mark))
    with _alone(folder):
        if stamp.exists() and stamp.read_text() == wanted and _runs(folder, check):
            return folder / "bin"
        say(f"making a Python environment in {folder}")
        _need_venv()
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages],
        ):
            try:
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            except subprocess.CalledProcessError as error:
                raise SetupError(f"{' '.join(command)} ended with {error.returncode}") from None
        # Last, so that an interrupted installation counts as none.
        stamp.write_text(wanted)
    return folder / "bin"


def _runs(folder: Path, statement: str) -> bool:
    try:
        # The interpreter may be gone, or be another one, after an upgrade of the machine.
        command = [str(folder / "bin" / "python"), "-c", statement]
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _need_venv() -> None:
    # Debian has the module that makes environments in a package of its own.
    if importlib.util.find_spec("ensurepip") is None:
        install_packages(["python3-venv"])


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
