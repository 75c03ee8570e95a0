"""What the tests of the command line share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from operating.staged import staged_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parts.criimage_process import Criimage


@pytest.fixture(scope="session")
def shared() -> Iterator[Criimage]:
    """A server for tests that look only, or that tidy up."""
    with staged_server('pinned_images = ["*named*"]') as server:
        yield server


@pytest.fixture
def endpoint(shared: Criimage, monkeypatch: pytest.MonkeyPatch) -> str:
    """That server's endpoint, which every command of the test talks to by itself."""
    monkeypatch.setenv("CRIIMAGE_ENDPOINT", shared.endpoint)
    return shared.endpoint
