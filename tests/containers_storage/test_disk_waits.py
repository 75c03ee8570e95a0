"""What the kernel tells of a copy that a disk or a lock of the store keeps waiting, from a /proc written by hand.

A disk that takes a minute to write cannot be had on demand; what the kernel shows of a process that waits for one can.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from criimage.backend import Phase
from criimage_containers_storage.pulling import progress
from criimage_containers_storage.pulling.manifests import LayersToFetch
from criimage_containers_storage.store import busy
from criimage_containers_storage.store.storage_conf import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.backend import PullProgress

SKOPEO, CHILD, STRANGER = 100, 101, 102
# As a thread of that name is shown, which is anybody's to choose.
NAMED = "sko) D (peo"


class Copy:
    """A copy of skopeo's as the kernel shows it, watched.

    Attributes:
        folder: for what it downloads.
        phases: what was told, look by look.
    """

    def __init__(self, folder: Path) -> None:
        self._proc = folder / "proc"
        self.folder = folder / "pull"
        (self.folder / "storage1").mkdir(parents=True)
        self.layout = Layout(folder / "root", folder / "run", "overlay")
        self._reports: list[PullProgress] = []
        self._watch = progress.Watch(self._reports.append, self.layout)
        self._watch.started(SKOPEO)
        self.locks()
        self.process(SKOPEO, "SS")
        self._watch.tell(Phase.RESOLVING)

    def process(self, number: int, states: str, *, children: str = "", written: int = 0) -> None:
        """Shows a process: the state of each of its threads, what the first one has started, what it has written."""
        folder = self._proc / str(number)
        for thread, state in enumerate(states):
            task = folder / "task" / str(number + 1000 * thread)
            task.mkdir(parents=True, exist_ok=True)
            (task / "stat").write_text(f"{number} ({NAMED}) {state} 1 {number} {number} 0 -1\n")
            (task / "children").write_text(children)
        (folder / "io").write_text(f"rchar: 1\nwchar: {written}\nsyscr: 1\n")

    def locks(self, *lines: str) -> None:
        """Shows who has locks or waits for them."""
        self._proc.mkdir(exist_ok=True)
        (self._proc / "locks").write_text("".join(f"{line}\n" for line in lines))

    def looks(self, times: int = 1) -> list[Phase]:
        """What is told at the next looks."""
        before = len(self._reports)
        for _ in range(times):
            self._watch._see(progress._look(self.layout, self.folder, SKOPEO, ask=False))
        return [report.phase for report in self._reports[before:]]

    def says(self, said: str) -> list[int | None]:
        """The seconds that the registry asks for, as they are told when skopeo has said so much."""
        before = len(self._reports)
        self._watch.hear(said)
        return [report.retry_after for report in self._reports[before:]]

    def ends_unchanged(self, layers: LayersToFetch | None) -> PullProgress:
        """What is told last where nothing was fetched."""
        self._watch.unchanged(layers)
        self._watch.tell(Phase.DONE)
        return self._reports[-1]

    def arrives(self, size: int) -> None:
        """Lets a layer come in."""
        (self.folder / "storage1" / "1").write_bytes(b"x" * size)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """A copy that has begun and sleeps."""
    for module in (progress, busy):
        monkeypatch.setattr(module, "_PROC", tmp_path / "proc")
    return Copy(tmp_path)


@pytest.mark.parametrize(("whose", "states"), [(SKOPEO, "D"), (SKOPEO, "SSD"), (CHILD, "SD")])
def test_a_disk_that_keeps_it_waiting(copy: Copy, whose: int, states: str) -> None:
    """Any thread of skopeo's, or of the child that unpacks, in a disk's hands: told from the second look on (B8)."""
    assert copy.looks(2) == [Phase.RESOLVING] * 2
    copy.process(SKOPEO, "SS", children=f"{CHILD} ")
    copy.process(whose, states, children=f"{CHILD} " if whose == SKOPEO else "")
    assert copy.looks(3) == [Phase.RESOLVING, Phase.WAITING_FOR_STORE, Phase.WAITING_FOR_STORE]
    copy.process(whose, "S" * len(states), children=f"{CHILD} " if whose == SKOPEO else "")
    assert copy.looks() == [Phase.RESOLVING]


@pytest.mark.parametrize("state", ["S", "R", "T", "Z", "I", "d", ""])
def test_what_is_no_wait_for_a_disk(copy: Copy, state: str) -> None:
    """A registry is waited for in an interruptible sleep; nothing else is taken for a disk, whatever its name (B8)."""
    copy.process(SKOPEO, "SS", children=f"{CHILD}")
    copy.process(CHILD, "S")
    (copy.folder.parent / f"proc/{CHILD}/task/{CHILD}/stat").write_text(f"{CHILD} ({NAMED}) {state}".rstrip())
    # Another process's is not ours to tell.
    copy.process(STRANGER, "D")
    assert copy.looks(3) == [Phase.RESOLVING] * 3


def test_bytes_that_arrive_are_no_wait(copy: Copy) -> None:
    """While a layer comes in, a busy disk is part of a download; when nothing comes, it is the disk (B8)."""
    copy.process(SKOPEO, "D")
    for size in (1000, 2000, 3000):
        copy.arrives(size)
        assert copy.looks() == [Phase.DOWNLOADING]
    assert copy.looks(2) == [Phase.WAITING_FOR_STORE] * 2
    copy.arrives(4000)
    assert copy.looks() == [Phase.DOWNLOADING]
    # One moment of it, again and again, is how every copy goes.
    for state in "SDSDS":
        copy.process(SKOPEO, state)
        assert copy.looks() == [Phase.DOWNLOADING]


def test_what_it_writes_is_unpacking_unless_it_waits(copy: Copy) -> None:
    """What is written while nothing arrives is unpacked; a disk that holds that up for long is the store (B8)."""
    copy.arrives(1000)
    assert copy.looks() == [Phase.DOWNLOADING]
    written = itertools.count(10, 10)
    copy.process(SKOPEO, "S", written=next(written) * 65536)
    assert copy.looks() == [Phase.UNPACKING]
    copy.process(SKOPEO, "D", written=next(written) * 65536)
    assert copy.looks() == [Phase.UNPACKING]
    assert copy.looks() == [Phase.WAITING_FOR_STORE]


@pytest.mark.parametrize("driver_folder", ["images", "layers", "containers"])
def test_locks_as_the_kernel_lists_them(copy: Copy, driver_folder: str) -> None:
    """The one that waits is told from the one that has the lock, and from those of other files (B8, L5)."""
    lock = copy.layout.root / f"overlay-{driver_folder}/{driver_folder}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    found = lock.stat()
    file = f"{found.st_dev >> 8:02x}:{found.st_dev & 255:02x}:{found.st_ino}"
    copy.locks(
        f"1: POSIX  ADVISORY  WRITE {STRANGER} {file} 0 EOF",
        f"1: -> POSIX  ADVISORY  WRITE {SKOPEO} {file} 0 EOF",
        "2: torn",
    )
    assert copy.looks(2) == [Phase.RESOLVING, Phase.WAITING_FOR_STORE]
    copy.locks(f"1: POSIX  ADVISORY  WRITE {SKOPEO} {file} 0 EOF")
    assert copy.looks() == [Phase.UNPACKING]
    copy.locks(f"1: POSIX  ADVISORY  READ {SKOPEO} {file} 0 EOF", f"2: -> POSIX ADVISORY WRITE {SKOPEO} {file}9 0 EOF")
    # Nothing has come yet: it is the registry that is waited for, whatever lock was seen in between.
    assert copy.looks() == [Phase.RESOLVING]


def test_after_a_wait_it_downloads_on(copy: Copy) -> None:
    """What has come stays so when its file is gone, and the wait for the store is over (B8)."""
    copy.arrives(1000)
    assert copy.looks() == [Phase.DOWNLOADING]
    (copy.folder / "storage1" / "1").unlink()
    copy.process(SKOPEO, "D")
    assert copy.looks(3) == [Phase.DOWNLOADING, Phase.WAITING_FOR_STORE, Phase.WAITING_FOR_STORE]
    copy.process(SKOPEO, "S")
    assert copy.looks() == [Phase.DOWNLOADING]


def test_a_kernel_that_tells_nothing(copy: Copy) -> None:
    """A process that is gone, and a /proc that may not be read, are neither a wait nor an error (B8)."""
    copy.process(SKOPEO, "D")
    assert copy.looks(2)[-1] is Phase.WAITING_FOR_STORE
    (copy.folder.parent / "proc").rename(copy.folder.parent / "gone")
    assert copy.looks(2) == [Phase.RESOLVING] * 2


def test_a_registry_that_asks_to_wait_is_told_once_and_its_end_too(copy: Copy) -> None:
    """What is new in skopeo's words is a report, and nothing else is (T15)."""
    asked = 'level=debug msg="Detected \'Retry-After\' header \\"120\\""\n'
    sleeps = 'level=debug msg="Too many requests to h.io: sleeping for 60.000000 seconds before next attempt"\n'
    assert copy.says("level=debug\n") == []
    assert copy.says(asked + sleeps) == [120]
    assert copy.says(asked + sleeps) == []
    assert copy.says(f"{asked}{sleeps}GET https://h.io/v2/\n") == [None]


def test_what_nobody_counted_has_no_numbers(copy: Copy) -> None:
    """An unchanged image is told as that with the layers it has, and also where nobody knows them (T13)."""
    told = copy.ends_unchanged(None)
    assert (told.unchanged, told.layers_total, told.layers_reused) == (True, None, None)
    told = copy.ends_unchanged(LayersToFetch((), 3))
    assert (told.unchanged, told.layers_total, told.layers_reused) == (True, 0, 3)
