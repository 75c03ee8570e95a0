"""Running tools, who may change a store, folders for downloads, and the disk meter."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import anyio
import pytest

from containers_storage.opened import until
from containers_storage.written_store import WrittenStore
from criimage.disk_usage import measure_folder
from criimage.reference import ImageID, Reference
from criimage_containers_storage.pulling import changes, process, skopeo
from criimage_containers_storage.pulling.journal import Journal
from criimage_containers_storage.pulling.leftovers import unused_chains
from criimage_containers_storage.pulling.process import run
from criimage_containers_storage.pulling.skopeo import Skopeo
from criimage_containers_storage.pulling.work_folder import WorkFolder, lock_folder
from criimage_containers_storage.registries.credentials import ResolvedCredentials
from criimage_containers_storage.registries.rules import Rules
from criimage_containers_storage.store import usage
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.records import LayerRecord
from criimage_containers_storage.store.storage_conf import Layout
from criimage_containers_storage.store.usage import UsageMeter

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def alive(number: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_tool_that_ends() -> None:
    """Code and both outputs come back, however large."""
    outcome = await run(["sh", "-c", "head -c 300000 /dev/zero; echo oops >&2; exit 3"], environment=ENVIRONMENT)
    assert (outcome.code, len(outcome.out), outcome.err) == (3, 300000, "oops\n")
    with pytest.raises(FileNotFoundError):
        await run(["/does/not/exist"], environment=ENVIRONMENT)


async def test_a_tool_ends_when_its_own_process_does(tmp_path: Path) -> None:
    """What it has left in the background, with its outputs open, holds nobody up: a helper's agent may live on."""
    file = tmp_path / "child"
    script = f"sleep 600 & echo $! >{file}; echo said; echo oops >&2"
    outcome = await run(["sh", "-c", script], environment=ENVIRONMENT)
    child = int(file.read_text())
    try:
        os.kill(child, 0)  # it is there still
        assert (outcome.code, outcome.out, outcome.err) == (0, b"said\n", "oops\n")
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_tool_is_heard_while_it_runs(tmp_path: Path) -> None:
    """What it says on standard error is told before it has ended, and the whole of it afterwards."""
    heard: list[str] = []

    def hear(said: str) -> None:
        heard.append(said)
        (tmp_path / "go").touch()

    script = f"echo one >&2; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo two >&2"
    outcome = await run(["sh", "-c", script], environment=ENVIRONMENT, heard=hear)
    assert heard[0] == "one\n"
    assert outcome.err == "one\ntwo\n"


@pytest.mark.parametrize("part", ["started", "heard"])
async def test_a_fault_of_ours_leaves_no_tool_running(tmp_path: Path, part: str) -> None:
    """Who is told of a tool and fails gets that error, and the tool and its children are gone by then (T14)."""
    numbers: list[int] = []

    def fail(said: object) -> None:
        numbers.append(written_number(tmp_path / "child"))
        raise OSError(f"a fault: {said!r}")

    started = fail if part == "started" else numbers.append
    script = f"sleep 60 & echo $! >{tmp_path}/child; echo said >&2; wait"
    with pytest.raises(OSError, match="a fault"):
        await run(["sh", "-c", script], environment=ENVIRONMENT, started=started, heard=fail)
    assert numbers
    await asyncio.to_thread(until, lambda: not any(map(alive, numbers)))


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"])
async def test_a_cancel_takes_the_whole_family(tmp_path: Path, times: int, trap: str) -> None:
    """When the cancellation leaves, the tool and its children are gone, deaf ones too, cancelled twice too (T14)."""
    script = f"{trap} sh -c '{trap} echo $$ > {tmp_path}/child; while :; do sleep 0.05; done' & wait; sleep 60"
    started: list[int] = []
    task = asyncio.create_task(run(["sh", "-c", script], environment=ENVIRONMENT, started=started.append))
    child = await asyncio.to_thread(written_number, tmp_path / "child")
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(started[0])
    assert not alive(child)


def written_number(file: Path) -> int:
    """Waits until a number is in a file."""
    for _ in range(1000):
        if file.exists() and file.read_text().strip():
            return int(file.read_text())
        time.sleep(0.01)
    raise TimeoutError(file)


async def test_a_cancel_by_anyio_scope() -> None:
    """An anyio deadline ends the tool as well, and the scope sees its own cancellation (python-stack 4)."""
    started: list[int] = []

    def begin(number: int) -> None:
        started.append(number)
        scope.deadline = anyio.current_time()

    with anyio.CancelScope() as scope:
        await run(["sleep", "60"], environment=ENVIRONMENT, started=begin)
    assert scope.cancelled_caught
    assert not alive(started[0])


async def test_patience_lets_a_short_work_end(tmp_path: Path) -> None:
    """What had better not be interrupted is given its time; the cancellation comes after."""
    command, begun = ["sh", "-c", f"sleep 0.3; touch {tmp_path}/done"], asyncio.Event()
    task = asyncio.create_task(run(command, environment=ENVIRONMENT, patience=60, started=lambda number: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "patience",
    [skopeo._DELETE_PATIENCE, skopeo._TRY_OUT_PATIENCE, changes._PATIENCE],
    ids=["delete", "try out", "names"],
)
def test_a_tool_that_never_ends_does_not_hold_up_the_servers_end(patience: float) -> None:
    """Patience and all the time it takes to stop a deaf tool are less than the five seconds of SIGTERM (T14)."""
    assert patience + process._TERM_SECONDS + process._GONE_SECONDS < 5


@pytest.mark.parametrize("given", [{}, {"GOGC": "50", "GOMAXPROCS": "7"}], ids=["unset", "set"])
async def test_go_is_told_to_save_work(tmp_path: Path, given: dict[str, str]) -> None:
    """Each skopeo collects garbage less often, a question uses one processor; who set these is obeyed (T4, T5)."""
    program = tmp_path / "told"
    program.write_text(f'#!/bin/sh\necho "$GOGC ${{GOMAXPROCS-none}} $*" >> {tmp_path}/lines\n')
    program.chmod(0o755)
    tool = Skopeo(Layout(tmp_path, tmp_path, "vfs"), ENVIRONMENT | given, str(program))
    reference = Reference.parse("a.io/x:1")
    rules, credentials = Rules(Path("/policy.json")), ResolvedCredentials()
    await tool.top_manifest(reference, rules, credentials, tmp_path)
    entry = Journal(Layout(tmp_path / "store", tmp_path, "vfs")).begin(tmp_path)
    await tool.copy(reference, rules, credentials, tmp_path, entry, lambda _: None)
    await tool.delete(ImageID("a" * 64))
    lines = [line.split(" ") for line in (tmp_path / "lines").read_text().splitlines()]
    wanted = given or {"GOGC": "400", "GOMAXPROCS": "1"}
    assert [line[0] for line in lines] == [wanted["GOGC"]] * 3
    assert [line[1] for line in lines] == [wanted["GOMAXPROCS"], *[given.get("GOMAXPROCS", "none")] * 2]


def work_in(folder: Path) -> WorkFolder:
    """A work folder of a server on a store that is not there."""
    return WorkFolder(folder, Layout(folder / "store", folder, "vfs"))


async def test_folders_for_downloads(tmp_path: Path) -> None:
    """Ours alone, and gone with what is in them, after a cancel too (T14)."""
    work = work_in(tmp_path)
    assert work.path.stat().st_mode & 0o777 == 0o700
    async with work.for_one_pull() as one:
        (one / "storage1").mkdir()
        (one / "storage1" / "1").write_bytes(b"x")
    assert not one.exists()
    task = asyncio.create_task(hold(work))
    await asyncio.to_thread(until, lambda: list(work.path.glob("*/file")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(work.path.iterdir()) == []
    work.close()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a Path would block in a coroutine, says the linter


async def hold(work: WorkFolder) -> None:
    """Holds a folder until cancelled."""
    async with work.for_one_pull() as one:
        (one / "file").write_bytes(b"x")
        await asyncio.sleep(60)


async def test_a_folder_that_was_swept_is_made_again(tmp_path: Path) -> None:
    """Whoever takes it away does no lasting harm, and it is locked and gone in the end as before (E18)."""
    work, other = (
        work_in(tmp_path),
        work_in(tmp_path),
    )
    shutil.rmtree(work.path)
    async with work.for_one_pull() as one:
        (one / "file").write_bytes(b"x")
        work_in(tmp_path).close()
        assert (one / "file").exists(), "another server's sweep goes by the lock"
        assert other.path.exists()
    for one_of_them in (work, other):
        assert lock_folder(one_of_them.path) is None, "systemd-tmpfiles goes by a lock of the folder itself"
        one_of_them.close()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a Path would block in a coroutine, says the linter


def test_the_sweep_takes_what_a_killed_server_left(tmp_path: Path) -> None:
    """Folders whose owner is gone go at the start; a living one's, a stranger's and a link stay (T14)."""
    dead = tmp_path / "criimage-work-dead"
    (dead / "pull-1" / "storage1").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "lock").touch()
    (tmp_path / "criimage-work-link").symlink_to(outside)
    living, second = (
        work_in(tmp_path).path,
        work_in(tmp_path).path,
    )
    assert not dead.exists()
    assert living.exists()
    assert second.exists()
    assert outside.exists()


def test_measuring_counts_blocks_once(tmp_path: Path) -> None:
    """Blocks on disk, each file once however many names it has (F3)."""
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c").symlink_to("/")
    total, files = measure_folder(tmp_path, threading.Event())
    du = subprocess.run(["du", "-s", "-B1", str(tmp_path)], capture_output=True, text=True, check=True)
    assert total == int(du.stdout.split()[0])
    assert files == 4
    assert measure_folder(tmp_path / "none", threading.Event()) == (0, 0)


async def test_usage_without_the_containers_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images' data only, new images seen at the next call, and the mount point exists (F1, F3)."""
    # On a busy machine a round takes longer than a call waits for one.
    monkeypatch.setattr(usage, "_PATIENCE", 60.0)
    written = WrittenStore(tmp_path / "store")
    meter = UsageMeter(written.layout, Store(written.layout))
    assert (await meter.usage()).used_bytes == 0
    assert not written.root.exists(), "looking makes nothing"
    assert (await meter.usage()).mountpoint == str(tmp_path)
    for name in ("image", "container"):
        folder = written.root / "overlay" / name / "diff"
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(b"x" * 1_000_000)
    written.layers = [{"id": "image", "diff-digest": "sha256:1", "diff-size": 1}, {"id": "container"}]
    (written.root / "overlay-containers").mkdir()
    (written.root / "overlay-containers" / "containers.json").write_text('[{"id": "c", "layer": "container"}]')
    written.add("a.io/x:1")
    written.write()
    found = await meter.usage()
    assert 1_000_000 <= found.used_bytes < 1_100_000
    assert found.inodes_used is not None
    shutil.rmtree(written.root / "overlay" / "image")
    written.layers = []
    written.write()
    assert (await meter.usage()).used_bytes < 100_000
    await meter.close()


async def test_usage_answers_before_it_has_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first count that takes long is answered for by the records' sizes, at once, and stops with the backend (F3)."""
    written = WrittenStore(tmp_path)
    written.layers = [{"id": "a", "diff-digest": "sha256:1", "diff-size": 5_000_000}]
    written.add("a.io/x:1", layer="a")
    written.write()
    (written.root / "overlay" / "a").mkdir(parents=True)
    disk = threading.Event()

    def slow_entries(folder: Path) -> list[tuple[str, int]]:
        assert disk.wait(20)
        return [(entry.name, entry.stat().st_ino) for entry in folder.iterdir()]

    monkeypatch.setattr("criimage_containers_storage.store.usage._entries", slow_entries)
    meter = UsageMeter(written.layout, Store(written.layout))
    # The count waits for the disk; an answer that waited for the count would never come.
    found = await meter.usage()
    disk.set()
    assert found.used_bytes >= 5_000_000
    assert found.inodes_used is None
    await meter.close()


def test_only_what_nothing_uses_is_given_back() -> None:
    """Used layers, layers below others, unfinished ones and those of other pulls stay (R6, T14)."""

    def one(parent: str = "", blob: str = "b", *, incomplete: bool = False) -> LayerRecord:
        return LayerRecord(parent, "sha256:d", blob, 1, incomplete)

    layers = {
        "base": one(),
        "used": one("base"),
        "left": one("base"),
        "foreign": one("base", "other"),
        "unfinished": one("base", incomplete=True),
        "container": LayerRecord("held", "", "", None, incomplete=False),
        "held": one("base"),
    }
    used = {"used", "container"}
    assert unused_chains(layers, used, {"b"}, set()) == [[layers["base"], layers["left"]]]
    assert unused_chains(layers, used, {"b"}, {"base"}) == [[layers["base"], layers["left"]]], "the base is held anyway"
    assert unused_chains(layers, used, {"b"}, {"left"}) == []
    # With this one alone its base would go, which was there before.
    alone = {"base": one(), "left": one("base")}
    assert unused_chains(alone, set(), {"b"}, {"base"}) == []
    assert unused_chains(alone, {"base"}, {"b"}, {"base"}) == [[alone["base"], alone["left"]]]
    assert unused_chains(alone | {"two": one("left")}, set(), {"b"}, {"base"}) == []
    # On a layer of a read-only store, which stays; on one that nobody knows it would become another layer.
    over = {"left": one("base")}
    assert unused_chains(over, set(), {"b"}, set(), {"base": one(blob="other")}) == [[one(blob="other"), over["left"]]]
    assert unused_chains(over, set(), {"b"}, set()) == []
