"""Asking for a file: there, not there, or unreadable, which is never taken for not there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from criimage.files import UnreadableFile, files_in, is_there, read, read_if_there, unfit_place
from parts.missing import need_root

if TYPE_CHECKING:
    from collections.abc import Callable


def unsearchable(path: Path) -> Path:
    """Return a path that cannot be looked at, for root too: a link that leads to itself."""
    path.symlink_to(path.name)
    return path


def test_what_is_there(tmp_path: Path) -> None:
    """A file is read whole, through links and up to exactly the limit."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    link = tmp_path / "link"
    link.symlink_to("file")

    assert is_there(link)
    assert read(link) == read_if_there(file) == b"x" * 3_000_000
    assert read(file, limit=3_000_000) == file.read_bytes()
    assert read(Path("/dev/null")) == b""


def test_what_is_not_there(tmp_path: Path) -> None:
    """No file, no folder above it, a file above it, and a link to nothing are all the same: nothing."""
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nothing")
    for path in (tmp_path / "no", tmp_path / "no/no", tmp_path / "file/no", tmp_path / "dangling"):
        assert not is_there(path)
        assert read_if_there(path) is None
        assert files_in(path, "") == ()
        with pytest.raises(UnreadableFile) as caught:
            read(path)
        assert caught.value.absent
        assert str(path) in caught.value.text


ASK: tuple[Callable[[Path], object], ...] = (is_there, read, read_if_there, lambda path: files_in(path, ""))


@pytest.mark.parametrize("ask", ASK)
def test_unreadable_is_an_error_with_the_path(tmp_path: Path, ask: Callable[[Path], object]) -> None:
    """What cannot be told is never taken for nothing: every question fails, naming what it asked for (issue 14, A5)."""
    path = unsearchable(tmp_path / "loop")
    for asked in (path, path / "below", tmp_path / ("x" * 300)):
        with pytest.raises(UnreadableFile) as caught:
            ask(asked)
        assert not caught.value.absent
        assert caught.value.path == asked
        assert str(asked) in caught.value.text
        assert caught.value.kind == "configuration"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("ask", ASK)
def test_a_folder_that_may_not_be_searched(tmp_path: Path, ask: Callable[[Path], object]) -> None:
    """Another user than root is told which path he may not read."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "policy.json").write_text("{}")
    os.seteuid(65534)
    try:
        with pytest.raises(UnreadableFile, match=r"policy.json: Permission denied"):
            ask(closed / "policy.json")
    finally:
        os.seteuid(0)


def test_no_other_kinds_of_files(tmp_path: Path) -> None:
    """A folder and a pipe are refused at once: nobody waits for a writer that may never come."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path, why in ((pipe, "it is a pipe"), (tmp_path, "it is a folder")):
        with pytest.raises(UnreadableFile) as caught:
            read(path)
        assert caught.value.text == f"cannot read {path}: {why}"


def test_a_pipe_that_was_asked_for(tmp_path: Path) -> None:
    """`--config <(...)` names a pipe, and it is read to its end."""
    reading, writing = os.pipe()
    os.write(writing, b"backend = 'docker'")
    os.close(writing)
    try:
        assert read(Path(f"/dev/fd/{reading}"), pipe=True) == b"backend = 'docker'"
    finally:
        os.close(reading)


def test_size_is_bounded() -> None:
    """A file without an end costs what is allowed and no more."""
    with pytest.raises(UnreadableFile, match="larger than 1000 bytes"):
        read(Path("/dev/zero"), limit=1000)


def test_drop_ins(tmp_path: Path) -> None:
    """The files of a folder come by name; folders and links to nothing are no files."""
    for name in ("20-b.conf", "10-a.conf", "note.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "15-folder.conf").mkdir()
    (tmp_path / "16-link.conf").symlink_to("nothing")
    (tmp_path / "17-link.conf").symlink_to("note.txt")

    assert [path.name for path in files_in(tmp_path, ".conf")] == ["10-a.conf", "17-link.conf", "20-b.conf"]


def test_a_drop_in_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """One unreadable drop-in is an error, not one file less."""
    unsearchable(tmp_path / "10.conf")
    with pytest.raises(UnreadableFile, match=r"10\.conf"):
        files_in(tmp_path, ".conf")


def test_no_path_method_that_swallows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on `Path.exists` and its like, which swallow every OSError on Python 3.14."""

    def swallow(_self: Path, **_: object) -> bool:
        return False

    for name in ("exists", "is_file", "is_dir"):
        monkeypatch.setattr(Path, name, swallow)
    (tmp_path / "x").write_text("1")

    assert is_there(tmp_path / "x")
    assert read_if_there(tmp_path / "x") == b"1"
    assert files_in(tmp_path, "x") == (tmp_path / "x",)


def test_a_place_where_nobody_can_make_a_file(tmp_path: Path) -> None:
    """The kernel's own file systems, whatever is written after them; what may be a question of rights is none."""
    # A root of its own, as other Pythons are tried in, has perhaps no /sys.
    below_sys = ("/sys/no/such/folder",) if os.path.ismount("/sys") else ()
    for place in ("/proc", "/proc/self/x", "/proc/sys/kernel", *below_sys):
        assert "which is the kernel's own" in unfit_place(Path(place)), place
    for place in (str(tmp_path), f"{tmp_path}/no/such", "/", "/run/x/y", "/dev/x"):
        assert unfit_place(Path(place)) == "", place
    assert unfit_place(unsearchable(tmp_path / "link") / "x") == ""


def test_a_file_system_that_is_mounted_read_only(tmp_path: Path) -> None:
    """It is told with the folder, whether or not what is asked for is there."""
    need_root()
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], check=True)
    try:
        assert unfit_place(place / "a" / "b") == f"{place} is on a file system that is mounted read-only"
    finally:
        subprocess.run(["umount", str(place)], check=True)
