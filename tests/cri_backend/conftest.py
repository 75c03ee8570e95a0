"""Fixtures of all tests here: containerds of their own, and registries for all of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

from contract.real_registry import real_registries
from criimage_cri.backend import CriBackend  # noqa: F401 - imported before calls that block are refused
from parts.containerd import Containerd, containerd
from parts.critest_images import push_all
from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parts.registry import Registry


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A call that blocks the event loop, made by the backend while it runs, raises."""
    with blockbuster_ctx("criimage_cri"):
        yield


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    """Where a written runtime listens."""
    return tmp_path / "runtime.sock"


@pytest.fixture(scope="session")
def registries() -> Iterator[tuple[Registry, Registry]]:
    """Two real registries: everybody's, which has critest's images, and one with a password."""
    need("busybox")
    with real_registries() as running:
        push_all(running[0], busybox=Path(shutil.which("busybox") or "").read_bytes())
        yield running


@pytest.fixture(scope="session")
def pause(registries: tuple[Registry, Registry]) -> str:
    """The name of an image that pods can begin with."""
    return f"{registries[0].address}/pause:3.9"


@pytest.fixture(scope="session")
def running_containerd(pause: str) -> Iterator[Containerd]:
    with containerd(sandbox_image=pause) as running:
        yield running


@pytest.fixture
def runtime(running_containerd: Containerd) -> Containerd:
    """A containerd that has no images."""
    running_containerd.clear()
    return running_containerd
