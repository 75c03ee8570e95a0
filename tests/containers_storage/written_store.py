"""A store written by hand: the files that the tools would write, without the tools."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from criimage_containers_storage.store.records import big_data_file
from criimage_containers_storage.store.storage_conf import Layout

if TYPE_CHECKING:
    from pathlib import Path


def digest(data: bytes) -> str:
    """`sha256:` and the digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(identity: str, parent: str = "", size: int = 100, more: dict[str, object] | None = None) -> dict[str, object]:
    """A record of layers.json."""
    return {"id": identity, "parent": parent, "diff-digest": f"sha256:{identity}", "diff-size": size} | (more or {})


@dataclass(slots=True)
class WrittenStore:
    """Writes images.json and its company as containers-storage 1.43 does: by rename.

    Attributes:
        root: of the store.
        driver: names the folders.
    """

    root: Path
    driver: str = "overlay"
    records: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        """What the backend is told."""
        return Layout(self.root, self.root / "run", self.driver)

    @property
    def images_folder(self) -> Path:
        """Where the records are."""
        return self.root / f"{self.driver}-images"

    def add(
        self,
        *names: str,
        config: dict[str, Any] | None = None,
        annotations: dict[str, str] | None = None,
        index: int = 0,
        history: tuple[str, ...] = (),
        layer: str = "",
        seed: str = "",
    ) -> str:
        """Adds an image and returns its ID; `write` makes it seen."""
        config_data = json.dumps({"seed": seed or names, "config": {}, "rootfs": {}} | (config or {})).encode()
        config_digest = digest(config_data)
        manifest: dict[str, Any] = {"schemaVersion": 2, "config": {"digest": config_digest}, "layers": []}
        manifest |= {"annotations": annotations} if annotations else {}
        manifest_data = json.dumps(manifest).encode()
        data = {
            config_digest: config_data,
            f"manifest-{digest(manifest_data)}": manifest_data,
            "manifest": manifest_data,
        }
        for number in range(index):
            # Indexes of one image that differ, as after a push of another platform's image.
            index_data = json.dumps({"manifests": [{"digest": digest(manifest_data)}], "number": number}).encode()
            data[f"manifest-{digest(index_data)}"] = index_data
        identity = config_digest.removeprefix("sha256:")
        folder = self.images_folder / identity
        folder.mkdir(parents=True)
        for key, content in data.items():
            (folder / big_data_file(key)).write_bytes(content)
        record: dict[str, Any] = {
            "id": identity,
            "layer": layer,
            "metadata": "{}",
            "big-data-names": list(data),
            "big-data-sizes": {key: len(content) for key, content in data.items()},
            "big-data-digests": {key: digest(content) for key, content in data.items()},
            "created": "2020-01-01T00:00:00Z",
        }
        if names:
            record["names"] = list(names)
        if names or history:
            record["names-history"] = list(history or names)
        self.records.append(record)
        return identity

    def write(self) -> None:
        """Replaces the JSON files by rename, layers first (L7)."""
        for kind, content in (("layers", self.layers), ("images", self.records)):
            folder = self.root / f"{self.driver}-{kind}"
            folder.mkdir(parents=True, exist_ok=True)
            fresh = folder / f".tmp-{kind}"
            fresh.write_text(json.dumps(content))
            fresh.replace(folder / f"{kind}.json")
