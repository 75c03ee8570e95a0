"""What the tests of this backend share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import containers_storage.opened
from parts.skopeos import Version, install

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def other_skopeo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose program `skopeo` is Debian 13's."""
    folder = install(Version.DEBIAN13, tmp_path_factory.mktemp("debian13"))
    assert folder is not None
    return folder


@pytest.fixture(params=list(Version), ids=lambda version: f"skopeo-{version.value}")
def each_skopeo(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Version:
    """Runs a test with each version of skopeo, by PATH, the backend's and the test's own calls alike."""
    version: Version = request.param
    if version is Version.DEBIAN13:
        folder = request.getfixturevalue("other_skopeo")
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    else:
        install(version, request.getfixturevalue("tmp_path"))
    return version


@pytest.fixture(params=[True, False], ids=["proxy", "plain"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Runs a test with skopeo kept up for questions, and with a skopeo for each."""
    kept_up: bool = request.param
    monkeypatch.setattr(containers_storage.opened, "IMAGE_PROXY", kept_up)
    return kept_up


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives whichever test comes first the time to make a Debian 13."""
    for item in items:
        if isinstance(item, pytest.Function) and "each_skopeo" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(300))
