"""registries.conf is judged by the skopeo that pulls, and nothing by a second reader of ours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened
from criimage import errors
from criimage_containers_storage.config_files import ConfigFiles
from criimage_containers_storage.registries import judge
from criimage_containers_storage.registries.judge import Judge
from parts.skopeos import Version
from parts.store import store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine

MIRROR = '[[registry.mirror]]\nlocation = "m.example"\n'
REFUSED = {
    "a URL in place of a location": ('[[registry]]\nlocation = "https://a.example"\n', "URI schemes"),
    "an unknown pull-from-mirror": (
        f'[[registry]]\nlocation = "a.example"\n{MIRROR}pull-from-mirror = "sometimes"\n',
        "pull-from-mirror",
    ),
    "both ways to limit mirrors": (
        f'[[registry]]\nlocation = "a.example"\nmirror-by-digest-only = true\n{MIRROR}pull-from-mirror = "all"\n',
        "pull-from-mirror",
    ),
    "a text for a truth": ('[[registry]]\nlocation = "a.example"\nblocked = "true"\n', "incompatible types"),
    "two tables that differ": (
        '[[registry]]\nlocation = "a.example"\nblocked = true\n[[registry]]\nprefix = "b.io"\nlocation = "a.example"\n',
        "conflicting",
    ),
    "both formats": (
        'unqualified-search-registries = ["a.example"]\n[registries.search]\nregistries = ["b.example"]\n',
        "mixing",
    ),
    "a prefix without a location": ('[[registry]]\nprefix = "a.example"\n', "location is unset"),
    "an alias that is no short name": ('[aliases]\n"a.example/b" = "b.example/b"\n', "short name"),
    "a path as a search registry": ('unqualified-search-registries = ["a.example/b"]\n', "a.example/b"),
}
TAKEN = {
    "keys in other cases": '[[Registry]]\nLOCATION = "a.example"\n',
    "a search entry without a dot": 'unqualified-search-registries = ["nodot"]\n',
    "two equal tables": '[[registry]]\nlocation = "a.example"\n[[registry]]\nlocation = "a.example"\n',
    "unknown keys": "unknown = 1\n[other]\nx = 2\n",
    "a helper that is not there": 'credential-helpers = ["no-such-helper"]\n',
    "nothing": "",
}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may keep skopeo from saying anything in the time that a pull gives it."""
    monkeypatch.setattr(judge, "_SECONDS", 60.0)


def verdict(folder: Path, text: str, **drop_ins: str) -> str:
    """What skopeo says of such files."""
    (folder / "registries.conf").write_text(text)
    user = folder / "home/.config/containers/registries.conf.d"
    user.mkdir(parents=True, exist_ok=True)
    for name, content in drop_ins.items():
        (user / f"{name}.conf").write_text(content)
    files = ConfigFiles((folder / "registries.conf",), (user,), chosen=True)
    return Judge({**os.environ, "HOME": str(folder / "home")}).verdict(files, None)


@pytest.mark.usefixtures("each_skopeo")
def test_what_skopeo_refuses_and_takes(tmp_path: Path) -> None:
    """Its own words about each, without a login, a helper or a network (C2, C3); what it takes is no fault of ours."""
    for name, (text, words) in REFUSED.items():
        said = verdict(tmp_path, text)
        assert words in said, (name, said)
        assert str(tmp_path / "registries.conf") in said, name
    for name, text in TAKEN.items():
        assert verdict(tmp_path, text) == "", name


def test_the_versions_differ(tmp_path: Path, each_skopeo: Version) -> None:
    """What one version takes and the other does not is judged by the one that is there (C2)."""
    refused = verdict(tmp_path, 'unqualified-search-registries = []\n[registries.search]\nregistries = ["b.io"]\n')
    assert bool(refused) is (each_skopeo is Version.DEBIAN13)


@pytest.mark.usefixtures("each_skopeo")
def test_a_bad_drop_in_is_named_by_its_own_path(tmp_path: Path) -> None:
    """The user's drop-ins are judged where they are; a folder called x.conf is none (C2)."""
    (tmp_path / "home/.config/containers/registries.conf.d/folder.conf").mkdir(parents=True)
    assert verdict(tmp_path, "", good="") == ""
    said = verdict(tmp_path, "", bad="[[registry")
    assert f"{tmp_path}/home/.config/containers/registries.conf.d/bad.conf" in said


@pytest.mark.usefixtures("each_skopeo")
async def test_a_refused_file_is_told_by_the_check_and_the_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skopeo's words reach the operator at once, not pull by pull as something else (C2)."""
    with store() as local:
        local.write_registries(REFUSED["a text for a truth"][0])
        monkeypatch.setenv("HOME", str(local.folder))
        async with opened(local) as under_test:
            (problem,) = await under_test.backend.check()
            assert "incompatible types" in problem.text
            with pytest.raises(errors.ConfigurationError, match="incompatible types"):
                await under_test.pull("a.example/x:1")
