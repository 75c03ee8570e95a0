"""The store's JSON files as values (cri-o section 11, L1-L3).

Written by containers-storage 1.43 to 1.62; keys that we do not need are ignored, and a record that is not as expected
is left out without hiding the others.

Read by hand and not by strict models of pydantic, which were tried: they take the whole record away for one odd field,
where an image must stay listed so that it can be removed (S18), and it takes longer at every change of a file: 20 ms in
place of 4 for a thousand images, 54 in place of 33 for five thousand layers. What any odd field leads to, in each
reader, is in a test (test_odd_records.py).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from criimage.foreign_json import Bounds, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = [
    "ContainerRecord",
    "ImageRecord",
    "LayerRecord",
    "big_data_file",
    "chain_sizes",
    "read_container",
    "read_image",
    "read_layer",
    "read_layers",
    "read_raw",
    "whole_chains",
]

_BOUNDS = Bounds(size=2**28, members=2**24)
"""Of a store's own files: a record takes 1.6 kB and thirty values, so that is a hundred thousand images."""

_ID = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")
_PLAIN_KEY = re.compile(r"[0-9a-z.]+")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One entry of images.json.

    Attributes:
        id: 64 hexadecimal digits.
        layer: ID of the uppermost layer, or empty.
        names: as stored, the newest first.
        history: earlier names, the oldest first (S7).
        data_digests: digest by key of each big-data item.
        data_size: bytes of all big-data items and signatures (S9).
        data_names: keys of the big-data items in the order of their arrival; the digests are sorted by key (14).
    """

    id: str
    layer: str
    names: tuple[str, ...]
    history: tuple[str, ...]
    data_digests: Mapping[str, str] = field(hash=False)
    data_size: int = 0
    data_names: tuple[str, ...] = ()

    @property
    def manifest_digest(self) -> str:
        """Digest of the platform's own manifest, or empty while it is not stored yet (S4, S5)."""
        digest = self.data_digests.get("manifest", "")
        return digest if _DIGEST.fullmatch(digest) else ""

    @property
    def manifest_digests(self) -> list[str]:
        """All stored manifest digests in the order of their arrival (S4)."""
        keys = dict.fromkeys([*self.data_names, *self.data_digests])
        found = (self.data_digests.get(key, "") for key in keys if key.startswith("manifest"))
        return [digest for digest in dict.fromkeys(found) if _DIGEST.fullmatch(digest)]


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """One entry of containers.json or its volatile twin.

    Attributes:
        id: of the container.
        image: ID of its image, or empty.
        layer: ID of its own writable layer, or empty.
    """

    id: str
    image: str
    layer: str


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One entry of layers.json.

    Attributes:
        parent: ID of the layer below, or empty.
        diff_digest: digest of the uncompressed layer, or empty.
        blob_digest: digest of the layer as it came, or empty.
        size: bytes uncompressed, or None where the store does not know (S9).
        incomplete: being written, or left over from a writer that was killed.
    """

    parent: str
    diff_digest: str
    blob_digest: str
    size: int | None
    incomplete: bool


def read_raw(file: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    """Read a JSON array of objects; missing or empty means none (L1).

    What else is in it is left out, unless it is to be `whole`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON array.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    if not data.strip():
        return []
    found = parse(data, _BOUNDS)
    if found is None:
        return []
    if not isinstance(found, list):
        raise ValueError(f"{file.name} holds no JSON array")  # noqa: TRY004 - wrong content, not a wrong argument
    records = [record for record in found if isinstance(record, dict)]
    if whole and len(records) < len(found):
        raise ValueError("it holds something that is no record")
    return records


def read_image(entry: dict[str, Any]) -> ImageRecord | None:
    """Read one image record, or return None if it is none."""
    identity = entry.get("id")
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        return None
    digests = entry.get("big-data-digests")
    sizes = entry.get("big-data-sizes")
    layer = entry.get("layer")
    return ImageRecord(
        identity,
        layer if isinstance(layer, str) else "",
        _texts(entry.get("names")),
        _texts(entry.get("names-history")),
        {key: value for key, value in digests.items() if isinstance(value, str)} if isinstance(digests, dict) else {},
        (_total(sizes.values()) if isinstance(sizes, dict) else 0) + _signature_size(entry.get("metadata")),
        _texts(entry.get("big-data-names")),
    )


def read_container(entry: dict[str, Any]) -> ContainerRecord:
    """Read one container record.

    Raises:
        ValueError: it does not say what it uses: whoever passed it over would delete what it uses.
    """
    fields = [entry.get(key) or "" for key in ("id", "image", "layer")]
    if not all(isinstance(field, str) for field in fields) or not fields[0]:
        raise ValueError("a container's record does not say what it uses")
    return ContainerRecord(*fields)


def read_layers(raw: Iterable[dict[str, Any]]) -> dict[str, LayerRecord]:
    """Read layer records by ID."""
    return {entry["id"]: read_layer(entry) for entry in raw if isinstance(entry.get("id"), str)}


def read_layer(entry: dict[str, Any]) -> LayerRecord:
    """Read one layer record."""
    size = entry.get("diff-size", 0)
    known = bool(entry.get("diff-digest") or entry.get("toc-digest")) and isinstance(size, int)
    flags = entry.get("flags")
    return LayerRecord(
        str(entry.get("parent") or ""),
        str(entry.get("diff-digest") or ""),
        str(entry.get("compressed-diff-digest") or ""),
        max(0, size) if known else None,
        isinstance(flags, dict) and bool(flags.get("incomplete")),
    )


def chain_sizes(layers: Mapping[str, LayerRecord]) -> dict[str, int | None]:
    """Return for each layer the bytes of it and all below, None where one of them is unknown or missing (S9)."""
    sums: dict[str, int | None] = {"": 0}
    for start in layers:
        path: list[str] = []
        at = start
        while at not in sums:
            if at not in layers or at in path:
                sums[at] = None
                break
            path.append(at)
            at = layers[at].parent
        below = sums[at]
        for layer in reversed(path):
            size = layers[layer].size
            below = None if below is None or size is None else below + size
            sums[layer] = below
    return sums


def whole_chains(layers: Mapping[str, LayerRecord]) -> set[str]:
    """Return the layers that are complete and stand on complete ones down to the lowest; "", no layer, is one."""
    found = {"": True}
    for start in layers:
        path: list[str] = []
        at = start
        while at not in found:
            record = layers.get(at)
            found[at] = False  # until its chain is known: one that is a circle stays so
            if record is None or record.incomplete:
                break
            path.append(at)
            at = record.parent
        if found[at]:
            found |= dict.fromkeys(path, True)
    return {name for name, whole in found.items() if whole}


def big_data_file(key: str) -> str:
    """Return the file name of a big-data item (L3)."""
    return key if _PLAIN_KEY.fullmatch(key) else "=" + base64.b64encode(key.encode()).decode()


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _total(values: Iterable[object]) -> int:
    return sum(value for value in values if isinstance(value, int) and value > 0)


def _signature_size(metadata: object) -> int:
    if metadata in ("", "{}"):  # as most are; the reader of foreign JSON takes longer than all the rest of a record
        return 0
    try:
        found = parse(metadata) if isinstance(metadata, str) else {}
    except ValueError:
        return 0
    sizes = found.get("signature-sizes") if isinstance(found, dict) else None
    return _total(sizes) if isinstance(sizes, list) else 0
