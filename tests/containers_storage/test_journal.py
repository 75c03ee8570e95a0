"""The journal of what pulls write, when many pulls begin at once."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from criimage_containers_storage.pulling import journal as module
from criimage_containers_storage.pulling.journal import Journal
from criimage_containers_storage.pulling.work_folder import lock_folder
from criimage_containers_storage.store.storage_conf import Layout

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PULLS = 16


def test_pulls_that_begin_at_once_open_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pulls of a server share one lock of the folder: no descriptor is closed twice, none is left over."""
    made: list[int] = []

    def slowly(folder: Path) -> int | None:
        time.sleep(0.01)  # so that all the others come in between
        lock = lock_folder(folder)
        if lock is not None:
            made.append(lock)
        return lock

    monkeypatch.setattr(module, "lock_folder", slowly)
    journal = Journal(Layout(tmp_path / "store", tmp_path, "vfs"))
    together = threading.Barrier(PULLS)

    def begin(number: int) -> None:
        work = tmp_path / f"pull-{number}"
        work.mkdir()
        together.wait()
        journal.begin(work)

    with ThreadPoolExecutor(PULLS) as threads:
        for one in [threads.submit(begin, number) for number in range(PULLS)]:
            one.result()

    assert len(made) == 1
    (folder,) = [one for one in (tmp_path / "store" / "criimage").iterdir() if one.is_dir()]
    assert os.fstat(made[0]).st_ino == folder.stat().st_ino
    assert lock_folder(folder) is None, "it is still ours"
    journal.close()
    free = lock_folder(folder)
    assert free is not None, "no descriptor of it is left"
    os.close(free)
