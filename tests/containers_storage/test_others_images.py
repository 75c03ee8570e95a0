"""Removals beside other tools: their containers, their names, their records in the making."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from containers_storage.crio import crio_container, read, write
from containers_storage.opened import opened
from criimage import errors
from criimage.reference import Reference
from criimage.testing.oci import image, layer, noise_layer
from criimage_containers_storage.limits import limits
from criimage_containers_storage.pulling.changes import StoreChanges
from criimage_containers_storage.pulling.skopeo import Skopeo
from criimage_containers_storage.store import reader
from criimage_containers_storage.store.access import StoreAccess
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.storage_conf import Layout
from parts.registry import registry
from parts.store import Store as LocalStore
from parts.store import store, unmount_below

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

BASE = noise_layer(50_000)
SMALL = image(BASE, layer({"a": b"a"}))
OTHER = image(BASE, layer({"b": b"b"}))
REFUSED = image(BASE, layer({"c": b"c"}))


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
@pytest.mark.parametrize("transient", [False, True], ids=["volatile", "transient"])
async def test_an_image_under_a_container_of_cri_o_stays(driver: str, transient: bool) -> None:
    """Whatever the age of skopeo: refused by name, ID and last tag, and not a byte is changed (A1, R5, 14)."""
    with registry() as hub, store(driver=driver) as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test, opened(local, remove="untag") as untagging:
            pulled = await under_test.pull(name)
            with crio_container(local, pulled.id.hex, transient=transient) as container:
                before = contents(local)
                for backend, text in ((under_test, name), (under_test, str(pulled.id)), (untagging, name)):
                    with pytest.raises(errors.ImageInUse, match=f"image used by {container}"):
                        await backend.remove(text)
                assert contents(local) == before
            await untagging.remove(name)
            assert local.images() == {}
            assert local.layers() == set()


def contents(local: LocalStore) -> dict[str, bytes]:
    """Every file of records."""
    return {str(file): file.read_bytes() for file in local.root.rglob("*.json")}


async def test_files_that_cannot_be_read_remove_nothing() -> None:
    """Who uses an image is not known then: an error with the path, and the image is there (A5, A6)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            pulled = await under_test.pull(name)
            file = local.root / "overlay-containers/volatile-containers.json"
            file.write_text("[{")
            with pytest.raises(errors.OperationFailed, match=r"volatile-containers\.json"):
                await under_test.remove(name)
            file.unlink()
            images = local.root / "overlay-images/images.json"
            kept = images.read_bytes()
            images.write_bytes(b"[{")
            with pytest.raises(errors.OperationFailed, match=r"images\.json"):
                await under_test.remove("a" * 64)
            assert await under_test.backend.images() == (pulled,)
            images.write_bytes(kept)
            await under_test.remove(name)
            assert local.images() == {}


@pytest.mark.parametrize("form", ["id", "short"])
@pytest.mark.parametrize("record", ["nameless", "damaged"])
async def test_a_record_that_lists_hide_is_removed(record: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told OK about an image that is there: one that is new, one that is damaged (A5)."""
    # It stays hidden, however long a busy machine takes to look.
    for limit in ("_NAMELESS_SECONDS", "_WRITING_SECONDS"):
        monkeypatch.setattr(reader, limit, 600.0)
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            await asyncio.to_thread(local.pull, name)
            make_hidden(local, record)
            (identity,) = local.images()
            text = identity if form == "id" else identity[:12]
            assert await under_test.status(text) is None, "it is hidden"
            await under_test.remove(text)
            assert local.images() == {}
            assert local.layers() == set()


def make_hidden(local: LocalStore, record: str) -> None:
    """Makes the only image one that lists hide."""
    images = local.root / "overlay-images/images.json"
    (entry,) = read(images)
    if record == "nameless":
        entry = {key: value for key, value in entry.items() if not key.startswith("names")}
        (local.root / "overlay-images" / entry["id"] / "manifest").touch()
    else:
        (local.root / "overlay-images" / entry["id"] / "manifest").unlink()
    write(images, [entry])


async def test_a_name_that_nobody_can_be_shown_is_a_name() -> None:
    """Untagging the last name that clients see keeps an image that has another one, whatever it is (A4)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        strange = f"{name}.UPPER/and-more@nothing"
        async with opened(local, remove="untag") as under_test:
            pulled = await under_test.pull(name)
            images = local.root / "overlay-images/images.json"
            (entry,) = read(images)
            write(images, [entry | {"names": [strange, name]}])
            await under_test.remove(name)
            assert local.images() == {pulled.id.hex: (strange,)}


async def test_a_name_that_moves_while_others_are_taken_stays_where_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its image now may have no other, and would go with it (R4, A4)."""
    with registry() as hub, store() as local:
        first, second = hub.push(SMALL, "app", "1"), hub.push(SMALL, "app", "2")
        kept, other = hub.push(SMALL, "kept", "1"), hub.push(OTHER, "other", "1")
        take = StoreChanges._untag_by_buildah

        async def take_and_move(self: StoreChanges, name: str) -> bool:
            taken = await take(self, name)
            for one in {first, second} - {name}:
                local.command("add-names", "-n", one, moved_to)
            monkeypatch.setattr(StoreChanges, "_untag_by_buildah", take)
            return taken

        async with opened(local, remove="untag") as under_test:
            for name in (first, second, kept, other):
                await under_test.pull(name)
            digest = f"{first.rpartition(':')[0]}@{SMALL.digest}"
            moved_to = next(identity for identity, names in local.images().items() if other in names)
            local.command("set-names", moved_to)
            monkeypatch.setattr(StoreChanges, "_untag_by_buildah", take_and_move)
            await under_test.remove(digest)
        left = local.images()
        (moved,) = left.pop(moved_to)
        assert moved in {first, second}
        assert list(left.values()) == [(kept,)]


@pytest.mark.parametrize("moment", range(4))
async def test_an_undo_takes_its_own_name_only(moment: int) -> None:
    """What other tools did to names while a refused image came stays; its own name is where it was before (A4).

    The moments: nothing happens; another name is added to the image that had it; the name is moved away; the refused
    image gets another name.
    """
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        kept = hub.push(OTHER, "other", "1")
        layout = Layout(local.root, local.run_root, local.driver)
        reader, at = Store(layout), Reference.parse(name)
        for one in (name, kept):
            await asyncio.to_thread(local.pull, one)
        earlier = await reader.now()
        before, other = earlier.by_name[at], earlier.by_name[Reference.parse(kept)].record.id
        hub.push(REFUSED, "app", "1")
        await asyncio.to_thread(local.pull, name)
        refused = (await reader.now()).by_name[at]
        add = [[], [f"{name}-new", before.record.id], [name, other], [f"{name}-new", refused.record.id]][moment]
        if add:
            local.command("add-names", "-n", *add)
        skopeo = Skopeo(layout, os.environ)
        await StoreChanges(layout, os.environ, skopeo, StoreAccess(1)).undo(at, refused, before, known=False)
        assert {key: set(names) for key, names in local.images().items()} == {
            before.record.id: [{name}, {name, f"{name}-new"}, set(), {name}][moment],
            other: {kept, name} if moment == 2 else {kept},
            **({refused.record.id: {f"{name}-new"}} if moment == 3 else {}),
        }


def without_tools_for_names(folder: Path) -> None:
    """Makes a folder for PATH with every program but those."""
    for place in map(Path, os.environ["PATH"].split(os.pathsep)):
        for program in place.glob("*"):
            if program.name not in {"buildah", "containers-storage"} and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)


async def test_without_a_tool_for_names_a_refused_image_goes_all_the_same(tmp_path: Path) -> None:
    """Skopeo alone cannot give the name back: better no image under it than the refused one (S18, T16)."""
    without_tools_for_names(tmp_path)
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        layout = Layout(local.root, local.run_root, local.driver)
        reader, at = Store(layout), Reference.parse(name)
        await asyncio.to_thread(local.pull, name)
        before = (await reader.now()).by_name[at]
        hub.push(REFUSED, "app", "1")
        await asyncio.to_thread(local.pull, name)
        refused = (await reader.now()).by_name[at]
        environment = {**os.environ, "PATH": str(tmp_path)}
        changes = StoreChanges(layout, environment, Skopeo(layout, environment), StoreAccess(1))
        await changes.undo(at, refused, before, known=False)
        assert local.images() == {before.record.id: ()}


@pytest.mark.parametrize("how", ["image", "untag"])
async def test_an_image_of_both_stores_stays(how: str) -> None:
    """Its removal is refused with nothing changed; a name of the writable record goes alone with "untag" (C15, R7)."""
    with registry() as hub, store() as shared, store() as local:
        name, second = hub.push(SMALL, "app", "1"), hub.push(SMALL, "app", "2")
        await asyncio.to_thread(shared.pull, name)
        unmount_below(shared.folder)
        async with opened(local, options=[f"overlay.imagestore={shared.root}"], remove=how) as under_test:
            (before,) = await under_test.backend.images()
            assert before.pinned
            both = await under_test.pull(second)
            assert both.pinned
            assert [str(one) for one in both.tags] == [name, second]
            with pytest.raises(errors.ReadOnlyImage):
                await under_test.remove(str(both.id))
            if how == "image":
                with pytest.raises(errors.ReadOnlyImage):
                    await under_test.remove(second)
                assert await under_test.backend.images() == (both,)
            else:
                await under_test.remove(second)
                (left,) = await under_test.backend.images()
                assert [str(one) for one in left.tags] == [name]
                assert left.pinned


@pytest.mark.parametrize(("version", "warned"), [("1.9.3", 2), ("1.10.0", 2), ("1.11.0", 0), ("1.18.0", 0), ("", 2)])
def test_what_cannot_be_safe_is_told(version: str, warned: int) -> None:
    """An old skopeo is what `config check` tells although everything works (A1, E18)."""
    assert len(limits(version)) == warned
