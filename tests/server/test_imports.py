"""Claims: a server loads what its backend needs, and nothing that only others, or commands, need."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from criimage.backend import Phase
from criimage.cri.criimage.v1 import PullPhase
from criimage.server.services import pull_service

if TYPE_CHECKING:
    from pathlib import Path

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
import criimage.cli.serve, criimage.settings, criimage.server.app, {backend}.backend
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


_AFTER_A_LIST = {
    "anyio._backends._asyncio",
    "criimage.disk_usage",
    "criimage_containers_storage.parts",
    "criimage_containers_storage.pulling.journal",
    "criimage_containers_storage.pulling.pull",
    "criimage_containers_storage.readiness",
    "criimage_containers_storage.registries",
    "criimage_containers_storage.removal",
    "criimage_containers_storage.store.usage",
}
_FOR_CONFIG_CHECK = {
    "criimage_containers_storage.examination",
    "criimage_containers_storage.limits",
    "criimage_containers_storage.registries.certificates",
}

_LISTING = """
import asyncio, json, sys
from criimage.plugins import load
if sys.argv[2]:
    sys.modules[sys.argv[2]] = None
plugin = load("containers-storage")

async def main():
    async with plugin.open(plugin.settings_model.model_validate(json.loads(sys.argv[1]))) as backend:
        assert await backend.images() == ()
        listed = sorted(name for name, module in sys.modules.items() if module is not None)
        try:
            await backend.check()
            failed = ""
        except ImportError as error:
            failed = str(error)
        checked = sorted(name for name, module in sys.modules.items() if module is not None)
        print(json.dumps([listed, checked, failed, len(await backend.images())]))

asyncio.run(main())
"""


def _listing(tmp_path: Path, missing: str = "") -> tuple[set[str], set[str], str, int]:
    """The modules after a first list and after the check behind it; what the check raised; how many images are here."""
    settings = {"root": f"{tmp_path}/root", "run_root": f"{tmp_path}/run", "tmp_dir": str(tmp_path), "driver": "vfs"}
    command = [sys.executable, "-c", _LISTING, json.dumps(settings), missing]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    # Lines of a log may stand before it, such as that there is no skopeo here.
    listed, checked, failed, images = json.loads(told.splitlines()[-1])
    return set(listed), set(checked), failed, images


def test_a_first_list_waits_for_nothing_that_other_calls_need(tmp_path: Path) -> None:
    """And the first check has brought in all modules of the backend: no import is left for a call at night."""
    listed, checked, failed, _ = _listing(tmp_path)
    assert "criimage_containers_storage.store.reader" in listed
    assert _AFTER_A_LIST & listed == set()
    package = importlib.util.find_spec("criimage_containers_storage")
    assert package is not None
    found = pkgutil.walk_packages(package.submodule_search_locations, "criimage_containers_storage.")
    assert {module.name for module in found} - checked == _FOR_CONFIG_CHECK
    assert failed == ""


def test_what_cannot_be_imported_is_told_by_the_first_check(tmp_path: Path) -> None:
    """The core makes one a moment after the start, and `config check` makes one (`criimage.backend`); lists go on."""
    missing = "criimage_containers_storage.pulling.pull"
    _, _, failed, images = _listing(tmp_path, missing)
    assert missing in failed
    assert images == 0


def test_phases_have_the_numbers_of_the_interface() -> None:
    """They are written without the generated messages, and are the same."""
    assert {phase: int(PullPhase.from_string(phase.name)) for phase in Phase} == pull_service._PHASES
