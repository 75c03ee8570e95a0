"""Records that no tool writes, in every file of a store that is read, given to everything that reads it."""

from __future__ import annotations

import copy
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from containers_storage.written_store import WrittenStore
from criimage.disk_usage import measure_folder
from criimage.errors import ImageInUse, OperationFailed
from criimage_containers_storage.pulling.journal import Journal
from criimage_containers_storage.pulling.leftovers import unused_chains
from criimage_containers_storage.store.in_use import read_in_use
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.storage_conf import Layout
from criimage_containers_storage.store.usage import UsageMeter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHANGED, GOOD_LAYER, CONTAINER = "c" * 64, "a" * 64, "d" * 64
DIGEST = f"sha256:{'e' * 64}"
ODD: list[Any] = [
    None, True, 0, -1, 2**70, 1.5, "", "x", "\x00\ud800", "../../etc", [], [None, 5, "x"], [[]], {}, {"x": {}},
]  # fmt: skip
IMAGE = {
    "id": CHANGED,
    "layer": CHANGED,
    "names": ["a.io/changed:1"],
    "names-history": ["a.io/changed:1"],
    "mapped-layers": [CHANGED],
    "metadata": json.dumps({"signature-sizes": [5]}),
    "big-data-names": ["manifest"],
    "big-data-sizes": {"manifest": 5},
    "big-data-digests": {"manifest": DIGEST},
}
LAYER = {
    "id": CHANGED,
    "parent": GOOD_LAYER,
    "diff-digest": DIGEST,
    "compressed-diff-digest": DIGEST,
    "diff-size": 10,
    "flags": {"incomplete": True},
}
HELD = {"id": CONTAINER, "image": "", "layer": GOOD_LAYER, "names": ["x"], "flags": {"Volatile": True}}


def odd(record: dict[str, Any]) -> Iterator[Any]:
    """The record with each key missing or with a value of another kind, and what is no record at all."""
    yield from ODD
    for key in record:
        yield {name: value for name, value in record.items() if name != key}
        for value in ODD:
            yield record | {key: value}
            if isinstance(record[key], dict):
                yield record | {key: dict.fromkeys(record[key], value)}
    yield record | {"metadata": '{"signature-sizes": ' + "[" * 5000}


@pytest.mark.parametrize(
    ("file", "record"),
    [
        ("images/images", IMAGE),
        ("layers/layers", LAYER),
        ("layers/volatile-layers", LAYER),
        ("containers/containers", HELD),
        ("containers/volatile-containers", HELD),
    ],
)
async def test_odd_records_hide_nothing_and_free_nothing(tmp_path: Path, file: str, record: dict[str, Any]) -> None:
    """Beside any odd record the good image is listed, its container keeps it, its layers stay (L10, L2, A1).

    A file of containers with one that cannot be read stops every deletion.
    """
    written = WrittenStore(tmp_path)
    good = written.add("a.io/good:1", layer=GOOD_LAYER)
    written.layers.append({"id": GOOD_LAYER, "diff-digest": DIGEST, "compressed-diff-digest": DIGEST, "diff-size": 100})
    written.write()
    target = tmp_path / f"overlay-{file.partition('/')[0]}/{file.partition('/')[2]}.json"
    target.parent.mkdir(exist_ok=True)
    holder = tmp_path / "overlay-containers/containers.json"
    holder.parent.mkdir(exist_ok=True)
    held = HELD | {"image": good}
    holder.write_text(json.dumps([held]))
    before = json.loads(target.read_text()) if target.exists() else []
    reader, meter, journal = (
        Store(written.layout),
        UsageMeter(written.layout, Store(written.layout)),
        Journal(written.layout),
    )
    split = Layout(tmp_path / "graph", tmp_path / "run", "overlay", (), (), tmp_path)
    refusals: list[str] = []
    count = 0
    for entry in odd(record):
        count += 1
        fresh = target.with_suffix(".new")
        fresh.write_text(json.dumps([copy.deepcopy(entry), *before]))
        fresh.replace(target)
        images = {one.id.hex: one for one in (await reader.now()).images}
        assert images[good].size > 100, entry
        for layout in (written.layout, split):
            try:
                users = read_in_use(layout)
            except OperationFailed as error:
                refusals.append(error.text)
                continue
            assert users.names(good) == ["a.io/good:1"]
            assert GOOD_LAYER in users.top_layers
            for identity in (CHANGED, good):
                users.image(identity)
                users.names(identity)
                users.refuse_if_shared(identity)
            if layout is written.layout:
                with pytest.raises(ImageInUse):
                    users.refuse_if_used(good)
            for chain in unused_chains(users.layers, users.top_layers, {DIGEST}, {GOOD_LAYER}):
                assert all(layer.diff_digest == DIGEST for layer in chain)
        try:
            meter._walk()
        except OperationFailed as error:
            refusals.append(error.text)
        begun = journal.begin(tmp_path)
        for kind in ("images", "layers"):
            known = begun.before(kind)
            assert known is None or {good, GOOD_LAYER} & known, entry
        journal.forget(begun)
    journal.close()
    assert count > 50
    assert all(text.startswith(f"cannot read {target}: ") for text in refusals)
    assert bool(refusals) is ("containers" in file)
    assert measure_folder(tmp_path, threading.Event())[1] > 5
