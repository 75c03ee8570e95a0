"""What a pull that came to nothing leaves, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, cast

import pytest

from cli.command import at_once
from containers_storage.crio import write
from containers_storage.opened import opened, until
from containers_storage.written_store import WrittenStore
from criimage.files import UnreadableFile
from criimage.testing.oci import image, layer, noise_layer
from criimage.testing.scripted_registry import Hang, ScriptedRegistry, Stage, scripted_registry
from criimage_containers_storage.pulling import journal as journal_module
from criimage_containers_storage.pulling import leftovers
from criimage_containers_storage.pulling.changes import StoreChanges
from criimage_containers_storage.pulling.journal import Journal
from criimage_containers_storage.pulling.process import Outcome
from criimage_containers_storage.store.access import StoreAccess
from criimage_containers_storage.store.storage_conf import Layout
from parts.child import child
from parts.criimage_process import criimage, store_config
from parts.store import Store, store, unmount_below

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from criimage.reference import ImageID
    from criimage_containers_storage.pulling.journal import Entry
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.store.records import LayerRecord


LAYERS = [noise_layer(100_000, seed=number) for number in range(3)]
BIG = image(*LAYERS)
OTHER = image(LAYERS[0], layer({"other": b"1"}))
DIGEST = "sha256:" + "a" * 64
DRIVERS = pytest.mark.parametrize("driver", ["overlay", "vfs"])


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is looked for at once, and given back at once."""
    monkeypatch.setattr(leftovers, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(leftovers, "LOOK_SECONDS", 0.05)


@contextlib.contextmanager
def halted(hub: ScriptedRegistry) -> Iterator[str]:
    """The name of an image whose last layer does not come, until released."""
    name = hub.put(BIG, "big", "1")
    hub.script(Stage.LAYER, Hang(after=1000), reference=LAYERS[2].digest)
    yield name


def layers_of(local: Store) -> int:
    """How many layers are complete in the store."""
    file = local.root / f"{local.driver}-layers" / "layers.json"
    records = json.loads(file.read_text()) if file.exists() else []
    return sum(not (record.get("flags") or {}).get("incomplete") for record in records)


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_a_retry_uses_what_was_complete() -> None:
    """Layers of a cancelled pull are not fetched again, and stay in force for some minutes (T14)."""
    with scripted_registry() as hub, store() as local, halted(hub) as name:
        async with opened(local) as under_test:
            await cancelled_with_two_layers(under_test.pull(name), local)
            hub.release()
            fetched = len(hub.asked(Stage.LAYER))
            await under_test.pull(name)
            assert [one.reference for one in hub.asked(Stage.LAYER)[fetched:]] == [LAYERS[2].digest]


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo", "soon")
@DRIVERS
async def test_without_a_retry_they_are_given_back(driver: str) -> None:
    """Layers that no image, container or other layer needs go, those that one needs stay (T14, R6)."""
    with scripted_registry() as hub, store(driver=driver) as local, halted(hub) as name:
        async with opened(local) as under_test:
            other = await under_test.pull(hub.put(OTHER, "other", "1"))
            await cancelled_with_two_layers(under_test.pull(name), local, 3)
            await asyncio.to_thread(until, lambda: layers_of(local) == len(local.layer_folders()) == 2)
            assert await under_test.backend.images() == (other,)
            hub.release()
            await under_test.pull(name)
            await asyncio.sleep(0.3)
            assert len(await under_test.backend.images()) == 2
            assert layers_of(local) == 4


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo", "soon")
async def test_layers_on_those_of_a_read_only_store_are_given_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go, where others stand in a store that is not ours; that one stays as it is (T14, L12)."""
    tries = []
    give_back = leftovers.Leftovers._give_back

    async def counted(self: leftovers.Leftovers, entry: Entry, chain: list[LayerRecord]) -> bool:
        tries.append(chain)
        return await give_back(self, entry, chain)

    monkeypatch.setattr(leftovers.Leftovers, "_give_back", counted)
    with scripted_registry() as hub, store() as shared, store() as local, halted(hub) as name:
        await asyncio.to_thread(shared.pull, hub.put(image(LAYERS[0]), "base", "1"))
        unmount_below(shared.folder)
        there = shared.layers()
        async with opened(local, options=[f"overlay.imagestore={shared.root}"]) as under_test:
            await cancelled_with_two_layers(under_test.pull(name), local, 1)
            await asyncio.to_thread(until, lambda: tries and layers_of(local) == 0)
            await asyncio.to_thread(until, lambda: not list(local.root.glob("criimage/*/*")))
            assert len(await under_test.backend.images()) == 1
        assert len(tries) == 1
        assert shared.layers() == there


async def cancelled_with_two_layers(pull: object, local: Store, count: int = 2) -> None:
    """Cancels a pull when so many layers are in the store."""
    task = asyncio.ensure_future(pull)  # type: ignore[call-overload]
    await asyncio.to_thread(until, lambda: layers_of(local) == count)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
def test_killed_in_the_middle_and_started_again() -> None:
    """After `kill -9` the next server ends what still ran, sweeps the files, serves, and a retry works (T14, C1)."""
    with scripted_registry() as hub, store() as local, halted(hub) as name:
        killed_in_the_middle(local, name)
        assert list(local.tmp.glob("criimage-work-*/pull-*/*"))
        assert hub.open(Stage.LAYER), "skopeo goes on without its server"
        with criimage(store_config(local)) as server:
            until(lambda: not hub.open() and not list(local.tmp.glob("*/pull-*")))
            assert json.loads(at_once("images", "--output", "json", "--endpoint", server.endpoint))["images"] == []
            hub.release()
            fetched = len(hub.asked(Stage.LAYER))
            at_once("pull", name, "--endpoint", server.endpoint)
            assert [one.reference for one in hub.asked(Stage.LAYER)[fetched:]] == [LAYERS[2].digest]
        assert list(local.tmp.iterdir()) == []


@pytest.mark.engine
@pytest.mark.usefixtures("soon")
@DRIVERS
async def test_a_killed_servers_layers_are_given_back(driver: str) -> None:
    """The next server knows which layers they are, without asking the registry (T14)."""
    with scripted_registry() as hub, store(driver=driver) as local, halted(hub) as name:
        await asyncio.to_thread(killed_in_the_middle, local, name)
        assert layers_of(local) == 2
        asked = len(hub.requests)
        async with opened(local):
            await asyncio.to_thread(until, lambda: layers_of(local) == len(local.layer_folders()) == 0)
        assert len(hub.requests) == asked


def killed_in_the_middle(local: Store, name: str) -> None:
    """Kills a server that pulls, when two layers are in the store."""
    with criimage(store_config(local)) as server:
        command = ["criimage", "pull", name, "--endpoint", server.endpoint]
        with child("client", command, local.folder / "client-log"):
            until(lambda: layers_of(local) == 2)
            server.process.process.kill()
            server.process.process.wait()


def test_a_dead_servers_journal_is_taken_over(tmp_path: Path) -> None:
    """Copies that ran and copies that had failed; a living server's are its own, another store's are not looked at."""
    layout = Layout(tmp_path / "root", tmp_path, "overlay")
    living, dead, other = Journal(layout), Journal(layout), Journal(Layout(tmp_path / "other", tmp_path, "overlay"))
    for journal in (living, dead, other):
        ran, failed = journal.begin(tmp_path / "work"), journal.begin(tmp_path / "work")
        ran.lines.write_text(f"Getting image source signatures\nCopying blob {DIGEST}\nCopying config {'b' * 64}\n")
        journal.end(failed)
    torn = dead.begin(tmp_path)
    (torn.folder / "entry.json").write_text("{")
    dead.close()  # the lock goes as with a kill; what is not settled stays
    mine = Journal(layout)
    found = mine.take_over()
    assert sorted((entry.ended is None, tuple(entry.blobs()), entry.image()) for entry in found) == [
        (False, (), ""),
        (True, (DIGEST,), "b" * 64),
    ]
    assert Journal(layout).take_over() == []
    for entry in found:
        mine.forget(entry)
    mine.close()
    assert len(list((tmp_path / "root/criimage").iterdir())) == 1, "the living one's"


def test_what_was_there_before(tmp_path: Path) -> None:
    """Known as it was, whatever is written since; not known is not nothing (A2)."""
    layout = Layout(tmp_path / "root", tmp_path, "overlay")
    journal = Journal(layout)
    nothing = journal.begin(tmp_path)
    assert nothing.before("layers") == nothing.before("images") == set()
    for kind in ("layers", "images"):
        write(layout.root / f"overlay-{kind}/{kind}.json", [{"id": "old"}])
    entry = journal.begin(tmp_path)
    for kind in ("layers", "images"):
        write(layout.root / f"overlay-{kind}/{kind}.json", [{"id": "old"}, {"id": "new"}])
        assert entry.before(kind) == {"old"}
    assert nothing.before("layers") == set()
    (entry.folder / "layers.json").unlink()
    assert entry.before("layers") is None
    (entry.folder / "images.json").write_text("[{")
    assert entry.before("images") is None


def test_a_list_of_the_second_root_that_cannot_be_told_is_not_missing(tmp_path: Path) -> None:
    """What was there before is not known then, and nothing of it is taken for a copy's own (A2, V4)."""
    layout = Layout(tmp_path / "root", tmp_path, "overlay", image_store=tmp_path / "images")
    entry = Journal(layout).begin(tmp_path)
    assert entry.before("layers") == set()
    (entry.folder / "no-layers-1").unlink()
    kept = entry.folder / "layers-1.json"
    kept.symlink_to(kept)
    with pytest.raises(UnreadableFile):
        entry.before("layers")


def test_a_journal_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose pulls fail for months does not fill its disk with what they were (A2)."""
    monkeypatch.setattr(journal_module, "_LIMIT", 3)
    journal = Journal(Layout(tmp_path / "root", tmp_path, "overlay"))
    entries = [journal.begin(tmp_path) for _ in range(5)]
    for entry in entries:
        journal.end(entry)
    assert journal.ended() == entries[2:]
    assert not entries[0].folder.exists()


class DeafSkopeo:
    """Never comes to an end by itself."""

    running: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self.asked = 0

    async def store_folder(self, _folder: Path, _identity: ImageID) -> Outcome:
        """Waits for a lock that nobody gives up."""
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


class IdleSkopeo(DeafSkopeo):
    """Says that it has done what it was asked, and does nothing."""

    async def store_folder(self, _folder: Path, _identity: ImageID) -> Outcome:
        """OK."""
        self.asked += 1
        return Outcome(0, b"", "")


async def test_what_the_tools_do_not_give_back_is_not_tried_for_ever(tmp_path: Path) -> None:
    """Layers that are still there after all went well are told and left: pulls wait for each try (issue 8)."""
    written = WrittenStore(tmp_path / "root")
    written.write()
    access, skopeo = StoreAccess(0.05), IdleSkopeo()
    journal = Journal(written.layout)
    entry = journal.begin(tmp_path)
    written.layers.append({"id": "l" * 64, "diff-digest": DIGEST, "compressed-diff-digest": DIGEST, "diff-size": 1})
    written.write()
    entry.lines.write_text(f"Copying blob {DIGEST}\n")
    idle = cast("Skopeo", skopeo)
    changes = StoreChanges(written.layout, {}, idle, access)
    await leftovers.Leftovers(written.layout, idle, changes, access, journal).after(entry, at_once=True)
    assert skopeo.asked == 1
    assert journal.ended() == []


class DeletingSkopeo(DeafSkopeo):
    """Takes note of what it is to delete."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[str] = []

    async def delete(self, identity: ImageID) -> Outcome:
        """OK."""
        self.deleted.append(identity.hex)
        return Outcome(0, b"", "")


@pytest.mark.parametrize("named", [False, True])
async def test_a_name_that_another_tool_gives_in_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """A2, A3: it was there when the record was looked at, named it, and is gone when the tools are looked at."""
    written = WrittenStore(tmp_path / "root")
    written.write()
    access, skopeo = StoreAccess(0.05), DeletingSkopeo()
    journal = Journal(written.layout)
    entry = journal.begin(tmp_path)
    identity = written.add("a.io/x:1")
    (record,) = written.records
    names = {key: record.pop(key) for key in ("names", "names-history")}
    written.write()
    entry.lines.write_text(f"Copying blob {DIGEST}\nCopying config sha256:{identity}\n")

    def gone_by_now(*_: object) -> list[str]:
        if named:
            record.update(names)
            written.write()
        return []

    monkeypatch.setattr(leftovers, "other_tools", gone_by_now)
    deleting = cast("Skopeo", skopeo)
    changes = StoreChanges(written.layout, {}, deleting, access)
    await leftovers.Leftovers(written.layout, deleting, changes, access, journal).after(entry)
    assert skopeo.deleted == ([] if named else [identity])


async def test_a_hung_tool_does_not_end_giving_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped, pulls go on, what it should have given back is known still and is tried again (A2, issue 8)."""
    monkeypatch.setattr(leftovers, "_TOOL_SECONDS", 0.05)
    written = WrittenStore(tmp_path / "root")
    written.write()
    layout, access, skopeo = written.layout, StoreAccess(0.05), DeafSkopeo()
    journal = Journal(layout)
    entry = journal.begin(tmp_path)
    written.layers.append({"id": "l" * 64, "diff-digest": DIGEST, "compressed-diff-digest": DIGEST, "diff-size": 1})
    written.write()
    entry.lines.write_text(f"Copying blob {DIGEST}\n")
    deaf = cast("Skopeo", skopeo)
    under_test = leftovers.Leftovers(layout, deaf, StoreChanges(layout, {}, deaf, access), access, journal)
    await under_test.after(entry, at_once=True)
    assert skopeo.asked == 1
    async with access.shared(lambda: None):
        # A copy that hangs has touched another layer: it holds up nothing.
        hung = journal.begin(tmp_path)
        hung.lines.write_text(f"Copying blob {DIGEST.replace('a', 'b')}\n")
        watching = asyncio.create_task(under_test.watch())
        await asyncio.to_thread(until, lambda: skopeo.asked == 2)
        # One that has touched the same layer counts on it.
        hung.lines.write_text(f"Copying blob {DIGEST}\n")
    watching.cancel()
    await asyncio.wait({watching})
    assert journal.ended() == [entry]
    await under_test.after(entry, at_once=True)
    assert skopeo.asked == 2
    assert entry.tries == 3
