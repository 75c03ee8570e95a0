"""CRI-O's containers, written as it writes them: it is not at hand (cri-o 14)."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parts.store import Store


@contextlib.contextmanager
def crio_container(local: Store, image: str, *, transient: bool = False, images: Path | None = None) -> Iterator[str]:
    """A container of CRI-O's on an image: its own layer in volatile-layers.json, itself in volatile-containers.json.

    Args:
        local: the store.
        image: its ID.
        transient: the store is a transient one: both files lie in the run root.
        images: the root that holds the image, where it is not the store's.

    Yields:
        the container's ID.
    """
    records = read((images or local.root) / f"{local.driver}-images/images.json")
    top = next(record["layer"] for record in records if record["id"] == image)
    container, layer = uuid.uuid4().hex * 2, uuid.uuid4().hex * 2
    root = local.run_root if transient else local.root
    entries = {
        root / f"{local.driver}-layers/volatile-layers.json": {"id": layer, "parent": top, "created": NOW},
        root / f"{local.driver}-containers/volatile-containers.json": {
            "id": container,
            "names": [f"k8s_{container[:8]}"],
            "image": image,
            "layer": layer,
            "metadata": "{}",
            "created": NOW,
            "flags": {"Volatile": True},
        },
    }
    for file, entry in entries.items():
        write(file, [*read(file), entry])
    try:
        yield container
    finally:
        for file, entry in entries.items():
            write(file, [one for one in read(file) if one["id"] != entry["id"]])


NOW = "2026-01-01T00:00:00Z"


def read(file: Path) -> list[dict[str, Any]]:
    """The records of a file; none if it is not there."""
    found: list[dict[str, Any]] = json.loads(file.read_text() or "[]") if file.exists() else []
    return found


def write(file: Path, records: list[dict[str, Any]]) -> None:
    """Replaces a file as the tools do, by rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(records))
    fresh.replace(file)
