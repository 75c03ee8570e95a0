"""Lists and statuses from the store's files."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import structlog

from containers_storage.hostile import DEEP
from containers_storage.opened import texts
from containers_storage.written_store import WrittenStore
from criimage.backend import User
from criimage.reference import Reference
from criimage_containers_storage.store import reader
from criimage_containers_storage.store.images import parse_user, read_facts, verbose_info
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.records import big_data_file, chain_sizes, read_layers, whole_chains
from criimage_containers_storage.store.storage_conf import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from criimage_containers_storage.store.images import Facts
    from criimage_containers_storage.store.records import ImageRecord


def layer(identity: str, parent: str = "", size: int = 100, more: dict[str, object] | None = None) -> dict[str, object]:
    """A record of layers.json."""
    return {"id": identity, "parent": parent, "diff-digest": f"sha256:{identity}", "diff-size": size} | (more or {})


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


async def test_tags_sorted_and_strange_names_dropped(tmp_path: Path) -> None:
    """Tags are sorted; what no client could use is left out (S2, design section 4)."""
    written = WrittenStore(tmp_path)
    written.add("b.io/x:2", "<none>", "a.io/x:10", "noregistry", "a.io/x:9", "docker.io/library/u:1", seed="s")
    written.write()
    image = (await Store(written.layout).snapshot()).images[0]
    assert texts(image.tags) == ["a.io/x:10", "a.io/x:9", "b.io/x:2", "docker.io/library/u:1"]


async def test_the_index_digest_comes_first(tmp_path: Path) -> None:
    """Each digest with each repository, the index before the instance (S3, S4, design section 4)."""
    written = WrittenStore(tmp_path)
    identity = written.add("b.io/x:1", "a.io/x:1", index=1)
    written.write()
    image = (await Store(written.layout).snapshot()).images[0]
    digests = written.records[0]["big-data-digests"]
    instance = digests["manifest"]
    (index,) = {value for key, value in digests.items() if key.startswith("manifest-")} - {instance}
    assert texts(image.digests) == [f"{r}@{d}" for d in (index, instance) for r in ("a.io/x", "b.io/x")]
    assert image.id.hex == identity
    assert str(image.id) == identity


async def test_of_several_indexes_the_newest_comes_first(tmp_path: Path) -> None:
    """An image that came through one index after another: the last pulled is what a caller knows it by (S4)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1", index=3)
    written.write()
    image = (await Store(written.layout).snapshot()).images[0]
    digests = written.records[0]["big-data-digests"]
    instance, oldest, middle, newest = [value for key, value in digests.items() if key.startswith("manifest-")]
    assert texts(image.digests) == [f"a.io/x@{d}" for d in (newest, middle, oldest, instance)]


async def test_a_name_given_only_as_a_digest(tmp_path: Path) -> None:
    """A stored repo@digest is a digest, not a tag (S2, P12)."""
    written = WrittenStore(tmp_path)
    written.add(seed="only")
    instance = written.records[0]["big-data-digests"]["manifest"]
    written.records[0] |= {"names": [f"h:5000/x@{instance}"], "names-history": []}
    written.write()
    snapshot = await Store(written.layout).snapshot()
    assert snapshot.images[0].tags == ()
    assert texts(snapshot.images[0].digests) == [f"h:5000/x@{instance}"]
    assert snapshot.by_name[Reference.parse(f"h:5000/x@{instance}")].image is snapshot.images[0]


@pytest.mark.parametrize("former", ["h:5000/a/x:1", "h:5000/a/x@sha256:" + "0" * 64])
async def test_an_image_without_names_shows_where_it_was(tmp_path: Path, former: str) -> None:
    """A dangling image keeps a digest of its oldest name's repository, ports intact (S6-S8)."""
    written = WrittenStore(tmp_path)
    written.add(history=(former, "later.io/y:1"))
    written.write()
    snapshot = await Store(written.layout).snapshot()
    (image,) = snapshot.images
    assert image.tags == ()
    assert texts(image.digests) == [f"h:5000/a/x@{written.records[0]['big-data-digests']['manifest']}"]
    assert snapshot.by_name[image.digests[0]].image is image


async def test_a_record_being_written_is_not_shown(tmp_path: Path) -> None:
    """A pull writes the record, then its files, then its name: in between it is not an image yet (L10)."""
    written = WrittenStore(tmp_path)
    fresh = written.add(seed="fresh")
    old = written.add(seed="old")
    written.write()
    os.utime(written.images_folder / old / "manifest", (1, 1))
    assert [image.id.hex for image in (await Store(written.layout).snapshot()).images] == [old]
    os.utime(written.images_folder / fresh / "manifest", (1, 1))
    assert len((await Store(written.layout).snapshot()).images) == 2


DAMAGES = ["manifest", "config", "folder", "empty", "deep", "list", "no digests", "odd digests"]
FAULTS = {
    "manifest": "No such file or directory",
    "config": "No such file or directory",
    "folder": "No such file or directory",
    "no digests": "no manifest is recorded",
}
"""What an operator is told of them; of the others whatever the reader of JSON found."""


def damaged_store(folder: Path, damage: str) -> WrittenStore:
    """A store whose first image is damaged, long ago."""
    written = WrittenStore(folder)
    bad = written.add("a.io/bad:1", "<none>:<none>", f"a.io/own@sha256:{'1' * 64}", layer="a")
    written.add("a.io/good:1")
    written.layers = [layer("a", size=1000)]
    place = written.images_folder / bad
    manifest = place / "manifest"
    match damage:
        case "manifest":
            manifest.unlink()
        case "config":
            (place / big_data_file(f"sha256:{bad}")).unlink()
        case "folder":
            shutil.rmtree(place)
        case "empty":
            manifest.write_bytes(b"")
        case "deep":
            manifest.write_text(DEEP)
        case "list":
            (place / big_data_file(f"sha256:{bad}")).write_text("[1, null]")
        case "no digests":
            written.records[0]["big-data-digests"] = None
        case _:
            odd = {"manifest": "no digest", "manifest-\ud800/..": "sha256:\ud800", "sha256:x/../y\0": 5}
            written.records[0]["big-data-digests"] = odd
    written.write()
    for file in (written.images_folder / "images.json", place):
        if file.exists():
            os.utime(file, (1, 1))
    return written


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_image_is_listed_with_what_is_known(tmp_path: Path, damage: str) -> None:
    """An image that cannot be read shows ID, names, digests and size, so that it can be removed (S18, S5)."""
    written = damaged_store(tmp_path, damage)
    snapshot = await Store(written.layout).snapshot()
    bad, good = snapshot.images
    assert texts(good.tags) == ["a.io/good:1"]
    assert texts(bad.tags) == ["a.io/bad:1"]
    assert bad.id.hex == written.records[0]["id"]
    assert bad.size == sum(written.records[0]["big-data-sizes"].values()) + 1000
    found = [f"a.io/own@sha256:{'1' * 64}"]
    if "digests" not in damage:
        manifest = written.records[0]["big-data-digests"]["manifest"]
        found = [f"a.io/bad@{manifest}", f"a.io/own@{manifest}", *found]
    assert texts(bad.digests) == found
    stored = snapshot.by_name[Reference.parse("a.io/bad:1")]
    assert stored is snapshot.with_prefix(bad.id.hex[:8])
    assert stored.facts.fault == FAULTS.get(damage, stored.facts.fault) != ""
    assert (stored.facts.user, dict(stored.facts.annotations)) == (None, {})


@pytest.mark.parametrize("damage", ["manifest", "config", "folder", "no digests"])
async def test_files_that_are_missing_for_a_moment_mean_no_damage(tmp_path: Path, damage: str) -> None:
    """What may be being written or removed right now is left out without a word, the others are listed (L10, S18)."""
    written = damaged_store(tmp_path, damage)
    os.utime(written.images_folder / "images.json")
    with structlog.testing.capture_logs() as logs:
        (image,) = (await Store(written.layout).snapshot()).images
    assert texts(image.tags) == ["a.io/good:1"]
    assert not logs


async def test_a_damaged_image_that_was_listed_stays_listed(tmp_path: Path) -> None:
    """Other changes of the store do not make it look new again, and it is logged once (S18, L10)."""
    written = damaged_store(tmp_path, "config")
    store = Store(written.layout)
    with structlog.testing.capture_logs() as logs:
        first = (await store.snapshot()).images
        written.add("a.io/more:1")
        written.write()
        second = (await store.snapshot()).images
    assert len(second) == 3
    assert second[0] is first[0]
    (told,) = logs
    assert (told["what"], told["error"]) == (first[0].id.hex, FAULTS["config"])


async def test_files_written_again_make_an_image_whole(tmp_path: Path) -> None:
    """A damaged image is read again when the store changes, although its record says the same (S18, L11)."""
    written = damaged_store(tmp_path, "empty")
    store = Store(written.layout)
    bad = next(iter((await store.snapshot()).by_id.values()))
    assert bad.facts.fault
    good = WrittenStore(tmp_path / "other")
    good.add("a.io/bad:1", "<none>:<none>", f"a.io/own@sha256:{'1' * 64}", layer="a")
    whole = good.images_folder / bad.image.id.hex / "manifest"
    (bad.folder / "manifest").write_bytes(whole.read_bytes())
    written.write()
    assert not next(iter((await store.snapshot()).by_id.values())).facts.fault


async def test_a_record_that_is_none_hides_nothing_else(tmp_path: Path) -> None:
    """A record without an ID cannot be shown; the others are (S18)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/bad:1")
    written.add("a.io/good:1")
    written.records[0] = {"id": 5, "names": "x"}
    written.write()
    (image,) = (await Store(written.layout).snapshot()).images
    assert texts(image.tags) == ["a.io/good:1"]


async def test_a_broken_file_keeps_what_was_known(tmp_path: Path) -> None:
    """A file that is no JSON never empties the list; it counts again when it is whole (L4)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1")
    written.write()
    store = Store(written.layout)
    assert len((await store.snapshot()).images) == 1
    (written.images_folder / "images.json").write_text("[{")
    assert len((await store.snapshot()).images) == 1


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


async def test_sizes(tmp_path: Path) -> None:
    """Records, signatures and the whole chain of layers, shared ones for each image; at least 1 (S9)."""
    written = WrittenStore(tmp_path)
    written.layers = [layer("a", size=1000), layer("b", "a", 200), layer("c", "a", more={"diff-digest": ""})]
    written.add("a.io/two:1", layer="b")
    written.add("a.io/unknown:1", layer="c")
    written.add("a.io/missing:1", layer="d")
    written.records[0]["metadata"] = json.dumps({"signature-sizes": [7, 8], "signatures-sizes": {"x": [99]}})
    written.write()
    images = (await Store(written.layout).snapshot()).images
    assert images[0].size == sum(written.records[0]["big-data-sizes"].values()) + 15 + 1200
    assert [image.size for image in images[1:]] == [1, 1]


async def test_a_size_is_found_when_the_layer_comes(tmp_path: Path) -> None:
    """layers.json alone may change (L10)."""
    written = WrittenStore(tmp_path)
    written.add("a.io/x:1", layer="a")
    written.write()
    store = Store(written.layout)
    assert (await store.snapshot()).images[0].size == 1
    written.layers = [layer("a", size=1000)]
    written.write()
    assert (await store.snapshot()).images[0].size > 1000


def test_chains() -> None:
    """A layer known by its table of contents alone counts nothing; circles end (S9, V3)."""
    layers = read_layers(
        [
            layer("a"),
            layer("t", "a", -1, {"diff-digest": "", "toc-digest": "sha256:1"}),
            layer("x", "y"),
            layer("y", "x"),
            {"id": 1},
        ]
    )
    sizes = chain_sizes(layers)
    assert whole_chains(layers) == {"", "a", "t"}
    assert (sizes["a"], sizes["t"], sizes["x"], sizes["y"]) == (100, 100, None, None)


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", None),
        ("1000", User(uid=1000)),
        ("1000:50", User(uid=1000)),
        ("0", User(uid=0)),
        ("www:grp", User(name="www")),
        (":5", None),
        ("+7", User(uid=7)),
        ("-1", User(uid=-1)),
        ("9223372036854775807", User(uid=2**63 - 1)),
        ("9223372036854775808", User(name="9223372036854775808")),
        ("1e3", User(name="1e3")),
        ("0" * 5000 + "12", User(uid=12)),
        ("9" * 5000, User(name="9" * 5000)),
    ],
)
def test_users(text: str, user: User | None) -> None:
    """A fitting number is a user ID, other text a name; groups are dropped (S10)."""
    assert parse_user(text) == user


async def test_annotations_and_verbose_info(tmp_path: Path) -> None:
    """Annotations come from the manifest; `info` holds labels and the config (S11, S13)."""
    written = WrittenStore(tmp_path)
    config = {"config": {"User": "www", "Labels": {"k": "é"}}, "os": "linux"}
    written.add("a.io/x:1", config=config, annotations={"note": "n"})
    written.write()
    stored = next(iter((await Store(written.layout).snapshot()).by_id.values()))
    assert stored.facts.annotations == {"note": "n"}
    assert stored.facts.user == User(name="www")
    info = json.loads(verbose_info(stored.folder, stored.record, stored.facts)["info"])
    assert info["labels"] == {"k": "é"}
    assert info["imageSpec"]["os"] == "linux"


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


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("manifest", "manifest"),
        ("sha256:ab", "=c2hhMjU2OmFi"),
        ("manifest-sha256:1", "=bWFuaWZlc3Qtc2hhMjU2OjE="),
    ],
)
def test_file_names(key: str, name: str) -> None:
    """Plain keys are file names, others are encoded (L3)."""
    assert big_data_file(key) == name
