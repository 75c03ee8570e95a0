"""Which real parts the tests of this run work with, for the first lines that pytest prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from parts.debian13 import kept
from setup.clients import CLIENTS

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 5.0
_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+~-]*")

_PARTS = {
    "tools": ("skopeo", "buildah", "podman"),
    "engines": ("dockerd",),
    "registries": ("docker-registry",),
    "runtimes": ("containerd", "crio", "runc"),
}
"""Programs that tell their version in their first line when asked with `--version`."""
_ELSEWHERE = {"trixie": ("skopeo", "docker.io", "python3"), "sid": ("skopeo", "docker.io", "python3")}
"""What of a system in a folder takes part, by its packages' names."""


def lines() -> list[str]:
    """A line for each kind of part, with versions; what is not there is named as missing.

    Takes as long as the slowest of these programs needs to tell its version, and never makes or installs anything.
    """
    asked = {name: _ask(name) for names in _PARTS.values() for name in names}
    found = [
        f"{kind}: " + ", ".join(f"{name} {_answer(asked[name])}" for name in names) for kind, names in _PARTS.items()
    ]
    built = (
        f"{client.name} {client.version if client.path.exists() else 'not built'}"
        for client in sorted(CLIENTS.values(), key=lambda one: one.name)
    )
    found.append("clients: " + ", ".join(built))
    for release, packages in _ELSEWHERE.items():
        found.append(f"{release}: {_in_folder(kept(release), packages)}")
    return found


def version_in(text: str) -> str:
    """The first thing in a program's answer that looks like a version, `?` if nothing does."""
    found = _VERSION.search(text)
    return found[0] if found else "?"


def packages_in(root: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The versions of these packages in a Debian in a folder, read from its own list without starting anything."""
    try:
        status = (root / "var/lib/dpkg/status").read_text(errors="replace")
    except OSError:
        return {}
    fields = (dict(re.findall(r"^(\w+): (.*)$", entry, re.MULTILINE)) for entry in status.split("\n\n"))
    return {one["Package"]: one["Version"] for one in fields if one.get("Package") in names and "Version" in one}


def _ask(name: str) -> subprocess.Popen[str] | None:
    # All are asked at once; one at a time podman alone would be most of the wait.
    if not (path := shutil.which(name)):
        return None
    return subprocess.Popen(
        [path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _answer(asked: subprocess.Popen[str] | None) -> str:
    if asked is None:
        return "missing"
    with asked:
        try:
            text, _ = asked.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            asked.kill()
            return "does not answer"
    return version_in(text)


def _in_folder(root: Path, names: tuple[str, ...]) -> str:
    versions = packages_in(root, names)
    return ", ".join(f"{name} {versions.get(name, 'missing')}" for name in names) if versions else "not made yet"
