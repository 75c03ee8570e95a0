"""The contract with containerd 2 behind the backend, which pulls through its transfer service (relay-and-cri 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cri_backend.test_conformance import TestCriOnContainerd as _OnContainerd
from parts.containerd import Containerd, containerd
from parts.debian13 import unstable

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def newer_containerd(pause: str) -> Iterator[Containerd]:
    with containerd(sandbox_image=pause, system=unstable()) as running:
        yield running


@pytest.mark.long
class TestCriOnNewerContainerd(_OnContainerd):
    """Everything is expected of it that is expected of the older one."""

    @pytest.fixture
    def runtime(self, newer_containerd: Containerd) -> Containerd:
        """A containerd that has no images."""
        newer_containerd.clear()
        return newer_containerd
