"""Claims: a server loads what its backend needs, and nothing that only others, or commands, need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from criimage.backend import Phase
from criimage.cri.criimage.v1 import PullPhase
from criimage.server.services import pull_service

_NOBODYS = {
    "rich",
    "betterproto",
    "dateutil",
    "google.protobuf",
    "prometheus_client",
    "criimage.cri",
    "difflib",
    "html",
}
_OF_RUNTIMES = {"criimage.channel", "criimage.server.relay", "criimage.runtime_facts"}
_OF_DOCKER = {"aiohttp", "aiodocker"}

_PROGRAM = """
import sys
sys.modules["rich"] = None  # as criimage.cli.serve does it
import criimage.cli.serve, criimage.server.app, {backend}.backend
print(*(name for name, module in sys.modules.items() if module is not None))
"""


@pytest.mark.parametrize(
    ("backend", "unwanted"),
    [
        ("criimage_containers_storage", _NOBODYS | _OF_RUNTIMES | _OF_DOCKER | {"tarfile"}),
        ("criimage_docker", _NOBODYS | _OF_RUNTIMES),
        ("criimage_cri", _NOBODYS | _OF_DOCKER),
    ],
)
def test_a_server_loads_only_what_it_needs(backend: str, unwanted: set[str]) -> None:
    """Each of these costs time before the first answer, and memory as long as the server runs."""
    command = [sys.executable, "-c", _PROGRAM.format(backend=backend)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "criimage.server.server" in loaded
    assert unwanted & loaded == set()


def test_phases_have_the_numbers_of_the_interface() -> None:
    """They are written without the generated messages, and are the same."""
    assert {phase: int(PullPhase.from_string(phase.name)) for phase in Phase} == pull_service._PHASES
