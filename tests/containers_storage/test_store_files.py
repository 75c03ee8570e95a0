"""Lists and statuses from the store's files: whose images there are, and what is not read again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from containers_storage.opened import texts
from containers_storage.written_store import WrittenStore, layer
from criimage.reference import Reference
from criimage_containers_storage.store import reader
from criimage_containers_storage.store.images import read_facts
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.storage_conf import Layout

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from criimage_containers_storage.store.images import Facts
    from criimage_containers_storage.store.records import ImageRecord


async def test_no_store_yet(tmp_path: Path) -> None:
    """A store that does not exist has no images, and nothing is created for looking (L1)."""
    store = Store(Layout(tmp_path / "none", tmp_path / "run", "overlay"))
    assert (await store.snapshot()).images == ()
    assert not (tmp_path / "none").exists()


async def test_the_same_tuple_until_a_file_changes(tmp_path: Path) -> None:
    """The very same value while nothing changed, images that stayed as they were included (contract, L6, L11)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    store = Store(written.layout)
    first = (await store.snapshot()).images
    assert (await store.snapshot()).images is first
    written.add("a.io/y:1")
    written.write()
    second = (await store.snapshot()).images
    assert [texts(image.tags) for image in second] == [["a.io/x:1"], ["a.io/y:1"]]
    assert second[0] is first[0]


async def test_what_did_not_change_is_not_made_again(tmp_path: Path) -> None:
    """Of an image that stayed as it was everything stays; layers.json is read again only if it changed (L6, L11)."""
    written = WrittenStore(tmp_path)
    written.layers = [layer("a"), layer("b", "a"), layer("c")]
    kept, named, moved = (written.add(f"a.io/{name}:1", layer=name) for name in "cba")
    written.write()
    images_file, layers_file = (tmp_path / f"overlay-{kind}" / f"{kind}.json" for kind in ("images", "layers"))
    store = Store(written.layout)
    first = await store.snapshot()
    written.records[1]["names"].append("a.io/more:1")
    images_file.write_text(json.dumps(written.records))
    second = await store.snapshot()
    assert second.layers is first.layers
    assert second.by_id[kept] is first.by_id[kept]
    assert second.by_id[moved] is first.by_id[moved]
    assert second.images[1] != first.images[1]
    assert second.by_name[Reference.parse("a.io/more:1")].image.id.hex == named
    written.layers[0]["flags"] = {"incomplete": True}
    layers_file.write_text(json.dumps(written.layers))
    third = await store.snapshot()
    assert [one.whole for one in third.by_id.values()] == [True, False, False]
    assert third.by_id[kept] is first.by_id[kept]
    assert third.layers["c"] is first.layers["c"]
    assert third.images is second.images
    written.layers[0] |= {"flags": {}, "diff-size": 7000}
    layers_file.write_text(json.dumps(written.layers))
    fourth = await store.snapshot()
    assert fourth.by_id[moved].whole
    assert fourth.images[0] is first.images[0]
    assert [image.size > 7000 for image in fourth.images] == [False, True, True]


async def test_an_images_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another image, or another name, costs no look at the files of those that stayed: a store may have thousands."""
    read: list[str] = []

    def counted(folder: Path, record: ImageRecord) -> Facts:
        read.append(record.id)
        return read_facts(folder, record)

    monkeypatch.setattr(reader, "read_facts", counted)
    written = WrittenStore(tmp_path)
    first = written.add("a.io/first:1")
    written.write()
    store = Store(written.layout)
    await store.snapshot()
    second = written.add("a.io/second:1")
    written.records[0]["names"].append("a.io/more:1")
    written.write()
    await store.snapshot()

    assert read == [first, second]


async def test_written_in_place_counts_too(tmp_path: Path) -> None:
    """A change is seen although it keeps the file and its size (L6)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    store = Store(written.layout)
    await store.snapshot()
    file = written.images_folder / "images.json"
    file.write_text(file.read_text().replace("a.io/x:1", "a.io/z:1"))
    assert texts((await store.snapshot()).images[0].tags) == ["a.io/z:1"]


async def test_the_later_record_owns_a_name_and_the_first_an_id(tmp_path: Path) -> None:
    """Two records with one name: the later one has it. Two with one ID: the first counts (L10)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1", seed="1")
    newer = written.add("a.io/x:1", seed="2")
    written.records.append(written.records[0] | {"names": ["a.io/ghost:1"]})
    written.write()
    snapshot = await Store(written.layout).snapshot()
    assert [texts(image.tags) for image in snapshot.images] == [[], ["a.io/x:1"]]
    assert snapshot.by_name[Reference.parse("a.io/x:1")].image.id.hex == newer


async def test_read_only_stores_come_after(tmp_path: Path) -> None:
    """Images of additional stores follow; the writable store wins on equal IDs and names (L12)."""
    own, other = WrittenStore(tmp_path / "own"), WrittenStore(tmp_path / "other")
    for written in (own, other):
        written.add("a.io/both:1", seed="same")
        written.add("a.io/name:1", seed=str(written.root))
    other.add("a.io/other:1")
    own.write()
    other.write()
    layout = Layout(own.root, own.root / "run", "overlay", (), (other.root,))
    snapshot = await Store(layout).snapshot()
    assert [texts(image.tags) for image in snapshot.images] == [
        ["a.io/both:1"],
        ["a.io/name:1"],
        [],
        ["a.io/other:1"],
    ]
    assert [one.read_only for one in snapshot.by_id.values()] == [False, False, True, True]
