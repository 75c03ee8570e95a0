"""Claims: a change of a file of records is always seen (L6), and what proves that there was none costs one lstat."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from criimage_containers_storage.store import files
from criimage_containers_storage.store.files import RecordsFile, Seen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LATER = 60 * 10**9


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A file of records whose lock beside it has a token."""
    write(tmp_path / "images.json", "one")
    return tmp_path / "images.json"


def write(file: Path, content: str) -> None:
    """Replaces the file as the tools do, and then the token."""
    new = file.with_suffix(".new")
    new.write_text(content)
    new.replace(file)
    file.with_suffix(".lock").write_bytes(os.urandom(64))


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a minute pass."""
    now = time.time_ns
    monkeypatch.setattr(files, "time", SimpleNamespace(time_ns=lambda: now() + LATER))


def in_place(file: Path) -> None:
    """Writes other bytes of the same number into the file, until the kernel's clock has gone on."""
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:
        file.write_text("two")


def linked(file: Path) -> None:
    """Moves the file and leaves a link to it."""
    file.rename(file.with_suffix(".old"))
    file.symlink_to(file.with_suffix(".old"))


def folder_instead(file: Path) -> None:
    """Puts a folder in the file's place."""
    file.unlink()
    file.mkdir()


CHANGES: list[Callable[[Path], object]] = [
    lambda file: write(file, "two"),
    lambda file: write(file, "one"),
    in_place,
    lambda file: file.unlink(),
    linked,
    folder_instead,
    lambda file: file.parent.rename(file.parent.with_suffix(".gone")),
]


@pytest.mark.parametrize("change", CHANGES, ids=["other", "same", "in place", "gone", "link", "folder", "all gone"])
@pytest.mark.parametrize("old", [False, True], ids=["young", "old"])
def test_every_change_is_seen(
    records: Path, change: Callable[[Path], object], old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the file has just been written or long ago, and whatever happens to it."""
    if old:
        later(monkeypatch)
    seen = Seen([RecordsFile(records)])
    assert seen.unchanged()
    assert seen.unchanged()
    change(records)
    assert not seen.unchanged()
    again = Seen([RecordsFile(records)])
    assert again.unchanged()


def test_what_was_not_there_is_seen_when_it_comes(records: Path) -> None:
    """The first image of a store writes its first images.json."""
    content = records.read_text()
    records.unlink()
    seen = Seen([RecordsFile(records)])
    assert seen.unchanged()
    write(records, content)
    assert not seen.unchanged()


@pytest.mark.parametrize("asked", [0, 3])
def test_a_second_write_within_a_tick_is_seen_by_its_token(
    records: Path, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that knows seconds only and uses inodes again, a tool writes twice in one (L6)."""
    same = SimpleNamespace(st_ino=7, st_mtime_ns=time.time_ns(), st_ctime_ns=time.time_ns(), st_size=3)
    monkeypatch.setattr(os, "lstat", lambda _: same)
    seen = Seen([RecordsFile(records)])
    for _ in range(asked):
        assert seen.unchanged()
    write(records, "two")
    assert not seen.unchanged()


def test_a_second_write_within_a_tick_is_seen_after_the_tick(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for a minute after both: the token is compared once more before times alone count."""
    same = SimpleNamespace(st_ino=7, st_mtime_ns=time.time_ns(), st_ctime_ns=time.time_ns(), st_size=3)
    monkeypatch.setattr(os, "lstat", lambda _: same)
    seen = Seen([RecordsFile(records)])
    write(records, "two")
    later(monkeypatch)
    assert not seen.unchanged()


def test_a_file_from_the_future_is_never_sure(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was set back gives later writes the times of earlier ones."""
    same = SimpleNamespace(st_ino=7, st_mtime_ns=1, st_ctime_ns=time.time_ns() + 10 * LATER, st_size=3)
    monkeypatch.setattr(os, "lstat", lambda _: same)
    later(monkeypatch)
    seen = Seen([RecordsFile(records)])
    assert seen.unchanged()
    write(records, "two")
    assert not seen.unchanged()


def test_an_old_file_costs_one_lstat(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a file is older than a tick its lock file is not opened any more."""
    opened: list[object] = []
    seen = Seen([RecordsFile(records)])
    token = RecordsFile.token

    def counted(file: RecordsFile) -> bytes:
        opened.append(file)
        return token(file)

    monkeypatch.setattr(RecordsFile, "token", counted)
    assert seen.unchanged()
    assert len(opened) == 1
    later(monkeypatch)
    assert seen.unchanged()
    assert seen.unchanged()
    assert len(opened) == 2
