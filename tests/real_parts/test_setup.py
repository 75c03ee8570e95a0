"""The set-up's own decisions; that it works on a bare machine shows wherever it runs for the first time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from setup import clients, packages
from setup.cache import cache_folder
from setup.packages import Part, install
from setup.say import SetupError

_ABSENT = Part("no-such-command-anywhere", "no-such-package")


def test_what_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "install_packages", lambda names: pytest.fail(f"would install {names}"))
    install([Part("sh", "dash"), Part("/etc/passwd", "base-passwd")])


def test_an_ordinary_user_is_told_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"apt-get": "/usr/bin/apt-get"}.get)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="apt-get install no-such-package"):
        install([_ABSENT])


def test_another_distribution_is_told_debians_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"nothing": ""}.get)
    with pytest.raises(SetupError, match="missing, by the names of their Debian packages: no-such-package"):
        install([_ABSENT])


@pytest.mark.parametrize(
    ("value", "base"), [("/somewhere", "/somewhere"), ("", "/home/x/.cache"), ("a", "/home/x/.cache")]
)
def test_the_cache_is_where_the_user_has_it(monkeypatch: pytest.MonkeyPatch, value: str, base: str) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder() == Path(base) / "criimage"


def test_clients_that_work_are_not_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clients, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(clients, "_go", lambda: pytest.fail("would build"))
    for client in clients.CLIENTS.values():
        client.path.parent.mkdir(parents=True, exist_ok=True)
        client.path.write_text(f"#!/bin/sh\necho version {client.version}\n")
        client.path.chmod(0o755)
    assert clients.build_clients()


def test_without_go_the_clients_are_left_out_and_nothing_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clients, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(clients, "_go", lambda: None)
    assert not clients.build_clients()


def test_a_wrong_target_is_one_line() -> None:
    command = [sys.executable, "-m", "setup", "frobnicate"]
    answer = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr == "setup: the target is one of: test check docs long attack bench soak deb demo serve\n"
