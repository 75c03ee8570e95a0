"""What an image's records and files make of it: names, digests, size, user and annotations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import texts
from containers_storage.written_store import WrittenStore, layer
from criimage.backend import User
from criimage.reference import Reference
from criimage_containers_storage.store import records
from criimage_containers_storage.store.images import parse_user, verbose_info
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.records import big_data_file, chain_sizes, read_layers, whole_chains

if TYPE_CHECKING:
    from pathlib import Path


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


def test_sizes_that_are_none_count_for_nothing() -> None:
    """Each byte counts; what is no number, or below 0, is somebody else's mistake."""
    assert records._total([1, 2, -5, "7", None, 0]) == 3
