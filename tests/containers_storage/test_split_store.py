"""A store that storage.conf's `imagestore` splits: images in one root, containers and the list of layers in another.

A skopeo that can write one does; any other is refused by name, for it would write the images into the graph root
without a word (cri-o V4, L13).
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers_storage.crio import crio_container, read
from containers_storage.locks import locked
from containers_storage.opened import opened, texts
from containers_storage.test_examination import examined
from containers_storage.written_store import WrittenStore
from criimage import errors
from criimage.testing.oci import Config, image, layer, noise_layer
from criimage_containers_storage.pulling.journal import Journal
from criimage_containers_storage.settings import Settings
from criimage_containers_storage.store.busy import lock_use
from criimage_containers_storage.store.in_use import InUse, read_in_use
from criimage_containers_storage.store.reader import Store as Reader
from criimage_containers_storage.store.records import ContainerRecord, read_layers
from criimage_containers_storage.store.split_store import tools_environment
from criimage_containers_storage.store.storage_conf import Layout, locate
from parts.registry import registry
from parts.skopeos import Version
from parts.store import Store, store

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = noise_layer(300_000)
FIRST = image(BASE, layer({"a": b"a"}))
SECOND = image(BASE, layer({"b": b"b"}))
# The very layers of the first one.
AGAIN = image(*FIRST.layers, config=Config(user="7"))
BY_STORAGE_CONF = {"root": "", "run_root": "", "driver": ""}


@pytest.fixture
def split(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose storage.conf puts the images into a folder `images` beside its root."""
    with store(driver=getattr(request, "param", "overlay")) as local:
        file = local.folder / "storage.conf"
        file.write_text(
            f'[storage]\ndriver = "{local.driver}"\ngraphroot = "{local.root}"\nrunroot = "{local.run_root}"\n'
            f'imagestore = "{local.folder}/images"\n'
        )
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(file))
        yield local


def images_in(root: Path) -> set[str]:
    """The IDs in one root."""
    return {record["id"] for file in root.glob("*-images/images.json") for record in read(file)}


@pytest.mark.engine
@pytest.mark.parametrize("split", ["overlay", "vfs"], indirect=True)
async def test_a_store_is_split_by_a_skopeo_that_can(
    split: Store, each_skopeo: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pull, skip, lists, figures, an in-use refusal and a removal with 1.18; 1.9 is refused by name (C14, V4, F1)."""
    if each_skopeo is Version.HERE:
        with pytest.raises(
            errors.ConfigurationError, match=r"storage\.conf sets storage\.imagestore, which skopeo 1\.9"
        ):
            async with opened(split, **BY_STORAGE_CONF):
                pass
        assert not split.root.exists()
        return
    images = split.folder / "images"
    monkeypatch.setenv("STORAGE_DRIVER", split.driver)
    with registry() as hub:
        first, second = hub.push(FIRST, "first", "1"), hub.push(SECOND, "second", "1")
        async with opened(split, **BY_STORAGE_CONF) as under_test:
            assert await under_test.backend.check() == ()
            found = await examined(under_test)
            assert found.problems == ()
            pulled = [await under_test.pull(name) for name in (first, second)]
            assert (images_in(images), images_in(split.root)) == ({one.id.hex for one in pulled}, set())
            assert (await under_test.pull(first)) is pulled[0]
            assert texts(pulled[0].tags) == [first]
            assert pulled[0].size > 300_000
            usage = await under_test.backend.usage()
            assert usage.images[0].mountpoint == str(images / f"{split.driver}-images")
            assert usage.containers[0].mountpoint == str(split.root / f"{split.driver}-containers")
            assert usage.images[0].used_bytes > 300_000 > usage.containers[0].used_bytes
            # CRI-O's containers are in the graph root.
            with crio_container(split, pulled[0].id.hex, images=images):
                for text in (first, str(pulled[0].id)):
                    with pytest.raises(errors.ImageInUse, match="image used by"):
                        await under_test.remove(text)
                assert images_in(images) == {one.id.hex for one in pulled}
            await under_test.remove(first)
            assert images_in(images) == {pulled[1].id.hex}
            await under_test.remove(second)
            assert images_in(images) == set()
        assert split.layers() == set()
        left = [entry.name for root in (images, split.root) for entry in (root / split.driver).rglob("*")]
        assert not [name for name in left if len(name) == 64]


@pytest.mark.engine
async def test_images_from_before_the_split(split: Store, other_skopeo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the graph root held before is listed and removed; one with layers that the other root's need stays.

    skopeo 1.18 would delete those layers: it looks for other users of a layer among the images of one root (V4).
    """
    monkeypatch.setenv("PATH", f"{other_skopeo}{os.pathsep}{os.environ['PATH']}")
    images = split.folder / "images"
    with registry() as hub:
        first, again = hub.push(FIRST, "first", "1"), hub.push(AGAIN, "again", "1")
        async with opened(split) as single:
            old = await single.pull(first)
            alone = await single.pull(hub.push(SECOND, "alone", "1"))
        async with opened(split, **BY_STORAGE_CONF) as under_test:
            new = await under_test.pull(again)
            assert {one.id for one in await under_test.backend.images()} == {old.id, new.id, alone.id}
            assert (images_in(images), images_in(split.root)) == ({new.id.hex}, {old.id.hex, alone.id.hex})
            for name in (first, again):
                with pytest.raises(errors.OperationFailed, match="shares layers with image"):
                    await under_test.remove(name)
            await under_test.remove(str(alone.id))
            assert (images_in(images), images_in(split.root)) == ({new.id.hex}, {old.id.hex})
            # A tag that moves is the new root's at once, although skopeo leaves it with the old image as well.
            moved = await under_test.pull(hub.push(SECOND, "first", "1"))
            assert texts(moved.tags) == [first]
            status = await under_test.status(first)
            assert status is not None
            assert status.image.id == moved.id


@pytest.mark.parametrize(
    ("text", "version", "told"),
    [
        ('imagestore = "/i"', "1.13.3", "storage.imagestore, which skopeo 1.13.3 does not follow; use skopeo 1.14"),
        ('imagestore = "/i"', "", "storage.imagestore, which a skopeo of unknown version"),
        ('imagestore = "/g"', "1.18.0", "storage.imagestore and graphroot are one folder, /g"),
        ('imagestore = "/i+"', "1.18.0", "/i+"),
        ('[storage.options]\nimagestore = "/i"', "1.18.0", "storage.options.imagestore, which skopeo does not read"),
    ],
)
def test_what_cannot_be_split_is_refused_by_name(tmp_path: Path, text: str, version: str, told: str) -> None:
    """Nothing is dropped in silence: skopeo would write the images somewhere else (L13, C14)."""
    environment = storage_conf(tmp_path, text)
    with pytest.raises(errors.ConfigurationError, match=re.escape(told)):
        locate(Settings(), environment, version=version)
    # Whoever names the store has said where everything is.
    if "options" not in text:
        assert locate(Settings(root="/mine"), environment, version=version).image_store is None


def test_the_first_that_can_be_split(tmp_path: Path) -> None:
    """1.14 is the first skopeo that follows the key (V4)."""
    environment = storage_conf(tmp_path, 'imagestore = "/i"')
    assert locate(Settings(), environment, version="1.14.0").image_store == Path("/i")


def test_only_roots_own_store_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's is refused by name: it was tried as root only (L14)."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(errors.ConfigurationError, match="follows for root only"):
        locate(Settings(), storage_conf(tmp_path, 'imagestore = "/i"'), version="1.18.0")


def test_what_a_deletion_would_take_from_the_other_root() -> None:
    """Refused is what takes a layer that an image of the other root stands on, and no more than that (V4, R6)."""
    layers = read_layers([{"id": "low"}, {"id": "high", "parent": "low"}, {"id": "own", "parent": "high"}])

    def refused(identity: str, newer: dict[str, str], older: dict[str, str], *containers: ContainerRecord) -> bool:
        one, other = ([{"id": key, "layer": top} for key, top in root.items()] for root in (newer, older))
        users = InUse(containers, (*one, *other), layers, tuple(other))
        try:
            users.refuse_if_shared(identity)
        except errors.OperationFailed:
            return True
        return False

    assert refused("a", {"a": "own"}, {"b": "own"})
    assert refused("b", {"a": "own"}, {"b": "own"})
    assert refused("a", {"a": "own"}, {"b": "low"})
    # It goes no lower than where another layer stands, an image of its own root, or a container.
    assert not refused("b", {"a": "own"}, {"b": "low"})
    assert not refused("a", {"a": "own", "c": "high"}, {"b": "low"})
    assert not refused("a", {"a": "own"}, {"b": "own"}, ContainerRecord("x", "b", "own"))
    # One that lies in both roots goes from both.
    assert not refused("a", {"a": "own"}, {"a": "own"})
    assert not refused("a", {"a": "own"}, {})


def test_a_layer_with_another_one_above_it_stays_by_itself() -> None:
    """A deletion stops below a fork: what the other root has there is not in danger (V4, R6)."""
    layers = read_layers([{"id": "low"}, {"id": "own", "parent": "low"}, {"id": "side", "parent": "low"}])
    others = ({"id": "b", "layer": "low"},)
    InUse((), ({"id": "a", "layer": "own"}, *others), layers, others).refuse_if_shared("a")


def storage_conf(folder: Path, text: str) -> dict[str, str]:
    """An environment that leads to a storage.conf with these lines."""
    (folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "/g"\nrunroot = "/r"\n{text}\n')
    return {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "HOME": str(folder)}


def test_the_tools_are_told_the_whole_store() -> None:
    """The storage.conf that skopeo gets has every place; variables that would change it are gone (V4, T2)."""
    layout = Layout(Path('/g"'), Path("/r"), "overlay", ("overlay.size=1G",), (Path("/more"),), Path("/i"))
    store = ["-g", '/g"', "-R", "/r", "-s", "overlay"]
    assert layout.flags == [*store, "--storage-opt", "overlay.size=1G", "--storage-opt", "overlay.imagestore=/more"]
    with tools_environment(layout, {"STORAGE_DRIVER": "vfs", "HOME": "/h"}) as told:
        read_back = tomllib.loads(Path(told.pop("CONTAINERS_STORAGE_CONF")).read_text())
        assert told == {"HOME": "/h", "STORAGE_OPTS": "overlay.size=1G,overlay.imagestore=/more"}
    places = {"driver": "overlay", "graphroot": '/g"', "runroot": "/r", "imagestore": "/i"}
    assert read_back == {"storage": places}
    with tools_environment(replace(layout, additional=(), options=()), {"STORAGE_OPTS": "x=y"}) as told:
        assert told.keys() == {"CONTAINERS_STORAGE_CONF"}
    with tools_environment(replace(layout, image_store=None), {"A": "b"}) as told:
        assert told == {"A": "b"}


async def test_both_roots_count(tmp_path: Path) -> None:
    """Names, in-use files, locks and the journal know both roots; one image in both has the names of either (V4)."""
    newer, older = WrittenStore(tmp_path / "i"), WrittenStore(tmp_path / "g")
    both = newer.add("example.com/new:1", seed="both")
    assert older.add("example.com/old:1", seed="both") == both
    alone = older.add("example.com/new:1", "example.com/alone:1", seed="alone")
    for one in (newer, older):
        one.write()
    layout = Layout(older.root, tmp_path / "run", "overlay", (), (), newer.root)
    snapshot = await Reader(layout).snapshot()
    assert {one.id.hex: texts(one.tags) for one in snapshot.images} == {
        both: ["example.com/new:1", "example.com/old:1"],
        alone: ["example.com/alone:1"],
    }
    assert read_in_use(layout).names(both) == ["example.com/new:1", "example.com/old:1"]
    journal = Journal(layout)
    assert journal.begin(tmp_path).before("images") == {both, alone}
    for root in layout.writable_roots:
        lock = root / "overlay-images/images.lock"
        lock.touch()
        with locked(lock):
            assert lock_use(layout).writers
    assert not lock_use(layout).writers
    # One that removes is not left with half of it, and a list that cannot be read stops it.
    (newer.root / "overlay-images/images.json").write_text("{")
    with pytest.raises(errors.OperationFailed, match=re.escape(str(newer.root))):
        read_in_use(layout)
    journal.close()
