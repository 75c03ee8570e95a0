"""Engines' records as they were seen, and what becomes of them (docker C1-C10, L4, L5).

The shapes are those of 20.10 (API 1.41), 26.1 with both stores (API 1.45), and from the facts of section 8, which no
engine here can show, those of newer ones; the latter are marked "replayed".
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from criimage.backend import Image, User
from criimage.errors import BackendUnavailable
from criimage.reference import ImageID, Reference
from criimage_docker.engine.records import convert, labels_of, user_of
from criimage_docker.view.info import verbose_info
from criimage_docker.view.snapshot import Snapshot, SnapshotMaker
from criimage_docker.view.usage import image_bytes

ID = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
DIGEST = "sha256:" + "ef" * 32
HOST = "127.0.0.1:5000/lib"

GRAPH_1_41: dict[str, Any] = {
    "Containers": -1,
    "Created": 1577836800,
    "Id": ID,
    "Labels": {"for": "one"},
    "ParentId": "",
    "RepoDigests": [f"{HOST}/busybox@{DIGEST}", f"busybox@{DIGEST}"],
    "RepoTags": [f"{HOST}/busybox:2", "busybox:latest", f"{HOST}/busybox:1"],
    "SharedSize": -1,
    "Size": 3000001,
    "VirtualSize": 3000001,
}
UNTAGGED_1_41 = GRAPH_1_41 | {"RepoDigests": ["<none>@<none>"], "RepoTags": ["<none>:<none>"]}
UNTAGGED_1_45 = GRAPH_1_41 | {"RepoDigests": [], "RepoTags": []}
BY_DIGEST_1_41 = GRAPH_1_41 | {"RepoDigests": [f"{HOST}/dig@{DIGEST}"], "RepoTags": None}
CONTAINERD_1_45: dict[str, Any] = {
    "Created": 1577836800,
    "Id": ID,
    "RepoDigests": [f"reg.example.com/x@{ID}"],
    "RepoTags": [f"{HOST}/x:1", "busybox:latest", "reg.example.com/x:t", f"{HOST}/x@{ID}"],
    "SharedSize": -1,
    "Size": 9041,
}


def texts(values: tuple[object, ...]) -> list[str]:
    return [str(value) for value in values]


def test_a_graph_drivers_image() -> None:
    """C1, C3: ID, tags sorted, digests sorted, size."""
    image = convert(GRAPH_1_41)

    assert str(image.id) == ID
    assert texts(image.tags) == [f"{HOST}/busybox:1", f"{HOST}/busybox:2", "docker.io/library/busybox:latest"]
    assert texts(image.digests) == [f"{HOST}/busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"]
    assert image.size == 3000001
    assert not image.pinned


@pytest.mark.parametrize("record", [UNTAGGED_1_41, UNTAGGED_1_45])
def test_an_untagged_image(record: dict[str, Any]) -> None:
    """C5: `<none>` is no name."""
    image = convert(record)

    assert (image.tags, image.digests) == ((), ())


def test_an_image_with_a_digest_only() -> None:
    """C5: null is no tag."""
    image = convert(BY_DIGEST_1_41)

    assert (image.tags, texts(image.digests)) == ((), [f"{HOST}/dig@{DIGEST}"])


def test_the_containerd_store() -> None:
    """C6: digests among the tags are digests; every repository has the image under its ID."""
    image = convert(CONTAINERD_1_45)

    assert texts(image.tags) == [f"{HOST}/x:1", "docker.io/library/busybox:latest", "reg.example.com/x:t"]
    assert texts(image.digests) == [f"{HOST}/x@{ID}", f"docker.io/library/busybox@{ID}", f"reg.example.com/x@{ID}"]


def test_the_containerd_store_without_this_platform() -> None:
    """C7: a bare digest is no name; the tag's repository has it (replayed)."""
    image = convert(CONTAINERD_1_45 | {"RepoTags": [f"{HOST}/x:1"], "RepoDigests": [ID]})

    assert texts(image.digests) == [f"{HOST}/x@{ID}"]


def test_sizes() -> None:
    """C3: `Size` counts, with or without the other one, and an empty image has one byte."""
    without = {key: value for key, value in GRAPH_1_41.items() if key != "VirtualSize"}

    assert convert(without).size == 3000001
    assert convert(GRAPH_1_41 | {"VirtualSize": 7}).size == 3000001
    assert convert(GRAPH_1_41 | {"Size": 0}).size == 1


@pytest.mark.parametrize(
    "change", [{"Size": -1}, {"Size": None}, {"Size": "1"}, {"Size": True}, {"Id": None}, {"Id": "x"}, {"Id": ""}]
)
def test_what_cannot_be_converted(change: dict[str, Any]) -> None:
    """C10: no ID, or no size that could be one."""
    with pytest.raises(ValueError, match="image"):
        convert(GRAPH_1_41 | change)


def test_a_list_without_what_cannot_be_converted() -> None:
    """L4: it is left out and logged, once and not with every list; the others are there."""
    maker = SnapshotMaker()
    broken = GRAPH_1_41 | {"Id": OTHER, "Size": -1}
    with capture_logs() as logs:
        snapshots = [maker.make([broken, GRAPH_1_41, {}]) for _ in range(3)]

    assert [str(image.id) for image in snapshots[0].images] == [ID]
    assert [entry["image"] for entry in logs] == [OTHER, "None"]
    assert snapshots[0] is snapshots[2]


def test_the_order() -> None:
    """L5: newest first, images of one moment by ID, whatever the engine's order."""
    records = [
        GRAPH_1_41 | {"Id": f"sha256:{digits * 64}", "RepoTags": [], "RepoDigests": [], "Created": created}
        for digits, created in (("1", 5), ("2", 9), ("3", 5), ("4", 7))
    ]
    orders = [
        [image.id.hex[0] for image in SnapshotMaker().make(shuffled).images] for shuffled in (records, records[::-1])
    ]

    assert orders == [["2", "4", "1", "3"]] * 2


def test_an_image_listed_twice() -> None:
    """The contract: each image once, whatever the engine repeats."""
    assert len(SnapshotMaker().make([GRAPH_1_41, GRAPH_1_41]).images) == 1


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", None),
        (":5", None),
        ("0", User(uid=0)),
        ("1000:100", User(uid=1000)),
        ("-1", User(uid=-1)),
        ("+5", User(uid=5)),
        ("007", User(uid=7)),
        (str(2**63 - 1), User(uid=2**63 - 1)),
        (str(-(2**63)), User(uid=-(2**63))),
        (str(2**63), User(name=str(2**63))),
        ("9" * 5000, User(name="9" * 5000)),
        ("0" * 5000 + "7", User(uid=7)),
        ("nobody:nogroup", User(name="nobody")),
        ("1_000", User(name="1_000")),
        (" 1", User(name=" 1")),
        ("\u0661", User(name="\u0661")),
        ("1.0", User(name="1.0")),
    ],
)
def test_users(text: str, user: User | None) -> None:
    """C4: as Go's ParseInt reads them, which knows nothing of white space, underscores and other digits."""
    assert user_of({"Config": {"User": text}}) == user


@pytest.mark.parametrize(
    "inspected", [{}, {"Config": None}, {"Config": {}}, {"Config": {"User": None, "Labels": None}}]
)
def test_a_config_with_nothing_in_it(inspected: dict[str, Any]) -> None:
    """C2, C7, section 8: null, empty and left out (API 1.52; replayed) are the same; dockershim fails at null."""
    assert user_of(inspected) is None
    assert labels_of(inspected) == {}
    info = verbose_info(inspected, [])
    assert list(info) == ["info"]
    assert json.loads(info["info"]) == {
        "imageSpec": {"config": {}, "rootfs": {"type": "layers", "diff_ids": []}, "history": []}
    }


def test_history() -> None:
    """S9: the oldest step first, an empty layer is one without size."""
    steps = [
        {"Created": 1577836801, "CreatedBy": "second", "Size": 0, "Comment": "c"},
        {"Created": 1577836800, "CreatedBy": "first", "Size": 5},
    ]
    info = verbose_info({}, steps)["info"]

    assert json.loads(info)["imageSpec"]["history"] == [
        {"created": "2020-01-01T00:00:00Z", "created_by": "first"},
        {"created": "2020-01-01T00:00:01Z", "created_by": "second", "comment": "c", "empty_layer": True},
    ]


def test_a_label_nested_too_deeply() -> None:
    """S8: what no reader of JSON gets through would break a client; it stands in the object only."""
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    info = verbose_info({"Config": {"Labels": {"deep": deep, "fine": '{"a": 1}'}}}, [])

    assert set(info) == {"fine", "info"}
    assert json.loads(info["info"])["labels"]["deep"] == deep


@pytest.mark.parametrize(
    "value",
    ["{NaN", '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": ' + "9" * 400 + "}", '{"a": "\ud800"}', "\udfff"],
)
def test_a_label_that_go_refuses(value: str) -> None:
    """S8: JSON that Python takes and Go refuses is in the object only, and all of `info` can be read by Go."""
    info = verbose_info({"Config": {"Labels": {"odd": value, "\ud800": "key", "fine": "1"}}}, [])
    for text in (*info, *info.values()):
        text.encode()
    document = json.loads(info["info"], parse_constant=pytest.fail)

    assert info["fine"] == "1"
    assert "odd" not in info or not info["odd"].startswith("{") or json.loads(info["odd"]) == {"a": "\ufffd"}
    assert document["labels"]["odd"] == value.replace("\ud800", "\ufffd").replace("\udfff", "\ufffd")


@pytest.mark.parametrize("created", [-62167219201, 253402300800, 10**18, -(10**30)])
def test_a_step_from_no_year_that_is(created: int) -> None:
    """S9: a date before year 1 or after 9999 is left out, and the rest of the step stays."""
    (step,) = json.loads(verbose_info({}, [{"Created": created, "CreatedBy": "x"}])["info"])["imageSpec"]["history"]

    assert step == {"created_by": "x", "empty_layer": True}


@pytest.mark.parametrize(
    "account", [{}, {"LayersSize": None}, {"LayersSize": -1}, {"ImagesUsage": {}}, {"LayersSize": "5"}]
)
def test_an_account_without_figures(account: dict[str, Any]) -> None:
    """F6: what the engine does not tell is unknown, and not 0 bytes."""
    with pytest.raises(BackendUnavailable):
        image_bytes(account)


@pytest.mark.parametrize(
    ("account", "used"),
    [
        ({"LayersSize": 24000, "Images": []}, 24000),
        ({"LayersSize": 0}, 0),
        # Section 8: from API 1.53 on (replayed).
        ({"ImagesUsage": {"TotalSize": 5, "Count": 1}}, 5),
        ({"ImagesUsage": {"TotalSize": 5}, "LayersSize": 9}, 5),
    ],
)
def test_the_engines_account(account: dict[str, Any], used: int) -> None:
    """F5, F6: bytes of all layers, each once, in the older and the newer form."""
    assert image_bytes(account) == used


def test_a_pull_takes_its_tag_from_another_image_and_nothing_else() -> None:
    """A8: the image that had the tag keeps its other ones; one that is left without a name is known by a list only."""
    one, two, three = (Reference.parse(f"reg.example/app:{number}") for number in (1, 2, 3))
    old = Image(ImageID.parse("ab" * 32), (one, two))
    other = Image(ImageID.parse("cd" * 32), (three,))
    pulled = Image(ImageID.parse("ef" * 32), (one,))
    after = Snapshot([(1, old), (2, other)]).with_pulled(one, 3, pulled)
    assert after is not None
    assert {image.id: image.tags for image in after.images} == {old.id: (two,), other.id: (three,), pulled.id: (one,)}
    assert after.with_name(one) is pulled
    assert after.with_pulled(three, 3, Image(pulled.id, (one, three))) is None
    assert after.with_pulled(one, 3, pulled) is after


def test_labels_that_are_no_texts_are_none() -> None:
    """What an engine is not supposed to say hides nothing that it may."""
    assert labels_of({"Config": {"Labels": {"number": 1, "none": None, "text": "x"}}}) == {"text": "x"}
    assert labels_of({"Config": {"Labels": ["a"]}}) == {}
