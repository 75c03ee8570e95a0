"""Which processes count as tools at work on a store, from a /proc written by hand (cri-o 14).

A mistake here gives back what another tool counts on, or never gives anything back.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from criimage_containers_storage.store import busy
from criimage_containers_storage.store.busy import other_tools
from criimage_containers_storage.store.storage_conf import Layout

if TYPE_CHECKING:
    from pathlib import Path

OURS = 7


class Machine:
    """What the kernel shows of a machine's processes.

    Attributes:
        layout: of a store that lies there.
    """

    def __init__(self, folder: Path) -> None:
        self._proc = folder / "proc"
        self._proc.mkdir()
        self.layout = Layout(folder / "root", folder / "run", "overlay")
        self.locks()

    def runs(
        self, number: int, command: str, *, name: str = "", state: str = "S", group: int = 0, file: str = ""
    ) -> None:
        """Shows a process by its command line, its short name if that is another, its state, group and open file."""
        folder = self._proc / str(number)
        (folder / "fd").mkdir(parents=True)
        arguments = command.split()
        short = name or arguments[0].rpartition("/")[2][:15]
        (folder / "comm").write_text(f"{short}\n")
        (folder / "stat").write_text(f"{number} ({short}) {state} 1 {group or number} {number} 0 -1\n")
        (folder / "cmdline").write_bytes(b"".join(one.encode() + b"\0" for one in arguments))
        if file:
            (folder / "fd" / "5").symlink_to(file)

    def locks(self, *lines: str) -> None:
        """Shows who has locks or waits for them."""
        (self._proc / "locks").write_text("".join(f"{line}\n" for line in lines))

    def tools(self) -> list[str]:
        """What is found."""
        return sorted(other_tools(self.layout, {OURS}))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(busy, "_PROC", tmp_path / "proc")
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("command", "counts"),
    [
        ("skopeo copy docker://a.io/b containers-storage:[overlay@ROOT+/run]a.io/b", True),
        ("/usr/bin/skopeo copy docker://a.io/b containers-storage:a.io/b", True),
        ("skopeo copy docker://a.io/b containers-storage:[overlay@/other+/run]a.io/b", False),
        ("skopeo copy docker://a.io/b dir:/tmp/b", False),
        ("podman pull a.io/b", True),
        ("podman --root ROOT pull a.io/b", True),
        ("podman --root /other pull a.io/b", False),
        ("podman --root=ROOT pull a.io/b", True),
        ("podman --root=/other pull a.io/b", False),
        ("podman pull a.io/b --root", True),
        ("containers-storage -g ROOT layers", True),
        ("containers-storage --graph /other layers", False),
        ("buildah bud .", True),
        ("bash containers-storage:[overlay@ROOT+/run]", False),
        ("sleep 60", False),
    ],
)
def test_a_tool_counts_by_its_name_and_the_store_it_names(machine: Machine, command: str, counts: bool) -> None:
    """One that names another store is at work there; one that names none may be at work on this (A2)."""
    machine.runs(1, "init")
    machine.runs(20, command.replace("ROOT", str(machine.layout.root)))

    assert machine.tools() == ([f"{command.split()[0].rpartition('/')[2][:15]} 20"] if counts else [])


@pytest.mark.parametrize("how", ["link", "other namespace", "relative", "unreadable"])
def test_a_store_is_known_however_a_tool_names_it(machine: Machine, tmp_path: Path, how: str) -> None:
    """By a link, by what is mounted somewhere else for it, from where it stands, or by its path if that is all (A2)."""
    machine.layout.root.mkdir()
    (tmp_path / "link").symlink_to(machine.layout.root)
    (tmp_path / "other").mkdir()
    named = {"link": tmp_path / "link", "other namespace": "/root", "relative": "root", "unreadable": tmp_path / "link"}
    machine.runs(20, f"podman --root {named[how]} pull a.io/b")
    machine.runs(21, f"podman --root {tmp_path / 'other'} pull a.io/b")
    proc = tmp_path / "proc" / "20"
    if how != "unreadable":
        (proc / "root").symlink_to(tmp_path if how == "other namespace" else "/")
        (proc / "cwd").symlink_to(tmp_path)
        (tmp_path / "proc" / "21" / "root").symlink_to("/")

    assert machine.tools() == ["podman 20"]


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("/data/container_images_storage12345/1", True),
        ("/data/storage12345/17", True),
        ("/var/log/crio.log", False),
        ("", False),
    ],
)
def test_crio_counts_while_it_downloads(machine: Machine, file: str, counts: bool) -> None:
    """CRI-O copies in its own process, which runs all the time: the file tells that it does so now (cri-o 14)."""
    machine.runs(20, "/usr/bin/crio", file=file)
    machine.runs(21, "bash", file="/data/storage12345/1")

    assert machine.tools() == (["crio 20"] if counts else [])


def test_what_has_ended_or_is_ours_does_not_count(machine: Machine) -> None:
    """A dead process works no more, and our own copies are not other tools; a name with brackets deceives nobody."""
    machine.runs(20, "podman pull a.io/b", state="Z")
    machine.runs(21, "podman pull a.io/b", group=OURS)
    machine.runs(22, "podman pull a.io/b", name="x) Z (x")
    machine.runs(23, "podman pull a.io/b", name="skopeo")

    assert machine.tools() == ["skopeo 23"]


def test_whoever_has_or_awaits_a_lock_of_the_store_counts(machine: Machine) -> None:
    """By whatever name it goes, once each; a reader of the store does nothing to it (L5)."""
    lock = machine.layout.root / "overlay-layers/layers.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    found = lock.stat()
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for number in (20, 21, 22):
        machine.runs(number, "unheard-of")
    machine.runs(23, "podman pull a.io/b")
    machine.runs(24, "unheard-of", group=OURS)
    machine.locks(
        f"1: POSIX  ADVISORY  WRITE 20 {file} 0 EOF",
        f"1: -> POSIX  ADVISORY  WRITE 21 {file} 0 EOF",
        f"2: POSIX  ADVISORY  READ 22 {file} 0 EOF",
        f"3: -> POSIX  ADVISORY  READ 23 {file} 0 EOF",
        f"4: POSIX  ADVISORY  WRITE 24 {file} 0 EOF",
    )

    assert machine.tools() == ["process 20", "process 21", "process 23"]


@pytest.mark.parametrize(
    ("device", "shown", "same"),
    [
        ((8, 1), "08:01:7", True),
        ((8, 1), "08:02:7", False),
        ((8, 1), "08:01:8", False),
        ((8, 1), "00:01:7", False),
        ((0, 0x2A), "00:2a:7", True),
        ((0, 0x2A), "00:1f:7", True),
        ((0, 0x2A), "00:2a:17", False),
        ((0, 0x2A), "fd:2a:7", False),
        ((259, 300), "103:12c:7", True),
    ],
)
def test_a_lock_is_known_on_every_file_system(device: tuple[int, int], shown: str, same: bool) -> None:
    """Btrfs has a number of its own for each subvolume, and shows another one among the locks (L5)."""
    assert busy._is_among(shown, {"7": {os.makedev(*device)}}) is same
