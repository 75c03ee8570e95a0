"""Who uses what in a store: read anew before each deletion, whatever the tool that deletes knows itself (L2, 14).

podman and buildah keep containers in containers.json; CRI-O keeps its own in volatile-containers.json and their layers
in volatile-layers.json, which skopeo before 1.11 does not read. In a transient store both volatile files lie in the run
root.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criimage.errors import ImageInUse, OperationFailed
from criimage_containers_storage.store.records import LayerRecord, read_container, read_layers, read_raw

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from criimage_containers_storage.store.records import ContainerRecord
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["InUse", "container_files", "layer_files", "read_in_use", "read_only_layers", "read_strictly"]


@dataclass(frozen=True, slots=True)
class InUse:
    """All users of a store at one moment.

    Attributes:
        containers: of whichever tool.
        images: every image record as it is in the file, of the writable store; of a split one those of the image store
            first.
        layers: every layer record of the writable store by ID, volatile ones included.
        older: those of `images` that are in the graph root of a split store.
    """

    containers: tuple[ContainerRecord, ...]
    images: tuple[dict[str, Any], ...]
    layers: Mapping[str, LayerRecord]
    older: tuple[dict[str, Any], ...] = ()

    def image(self, identity: str) -> dict[str, Any] | None:
        """Return the record of an image as it is in the file."""
        return next((record for record in self.images if record.get("id") == identity), None)

    def names(self, identity: str) -> list[str]:
        """Return all names of an image as they are in the file, those that no reference can be made of included."""
        found = (record.get("names") for record in self.images if record.get("id") == identity)
        lists = (names for names in found if isinstance(names, list))
        return list(dict.fromkeys(name for names in lists for name in names if isinstance(name, str)))

    def refuse_if_used(self, identity: str) -> None:
        """Refuse to go on if a container uses an image.

        Raises:
            ImageInUse: one does.
        """
        user = next((one.id for one in self.containers if one.image == identity), None)
        if user is not None:
            raise ImageInUse(f"image used by {user}: image is in use by a container")

    def refuse_if_shared(self, identity: str) -> None:
        """Refuse to delete an image of a split store with layers that an image in its other root stands on.

        The tools look for other users of a layer among the images of the same root only (containers-storage 1.57.2,
        `DeleteImage`), and would delete it under the other image.

        Raises:
            OperationFailed: there is such an image.
        """
        if not self.older:
            return
        newer = self.images[: len(self.images) - len(self.older)]
        children = collections.Counter(layer.parent for layer in self.layers.values())
        for mine, others in ((newer, self.older), (self.older, newer)):
            elsewhere = {layer: other for other in others if other.get("id") != identity for layer in _tops(other)}
            kept = {layer for one in mine if one.get("id") != identity for layer in _tops(one)}
            kept.update(one.layer for one in self.containers)
            for record in (one for one in mine if one.get("id") == identity):
                layer, above = str(record.get("layer") or ""), 0
                # Where a deletion stops: used by others of this root, or with more above it than it has come from (R6).
                while layer in self.layers and layer not in kept and children[layer] <= above:
                    if layer in elsewhere:
                        raise OperationFailed(
                            f"image {identity} shares layers with image {elsewhere[layer].get('id')} in the other root "
                            "of the store, which would lose them"
                        )
                    layer, above = self.layers[layer].parent, 1

    @property
    def top_layers(self) -> set[str]:
        """The layers that an image or a container stands on or is made of."""
        return {one.layer for one in self.containers}.union(*map(_tops, self.images))


def _tops(record: dict[str, Any]) -> set[str]:
    mapped = record.get("mapped-layers")
    return {str(record.get("layer") or ""), *map(str, mapped if isinstance(mapped, list) else ())}


def container_files(layout: Layout) -> tuple[Path, ...]:
    """Return every file that may hold containers."""
    folder = f"{layout.driver}-containers"
    return (
        layout.root / folder / "containers.json",
        layout.root / folder / "volatile-containers.json",
        layout.run_root / folder / "volatile-containers.json",
    )


def layer_files(layout: Layout) -> tuple[Path, ...]:
    """Return every file of the writable store that may hold layers."""
    folder = f"{layout.driver}-layers"
    return (
        layout.root / folder / "layers.json",
        layout.root / folder / "volatile-layers.json",
        layout.run_root / folder / "volatile-layers.json",
    )


def read_in_use(layout: Layout) -> InUse:
    """Read all of it now. Blocks.

    Containers are read last: they are written last (L7), so what a container that is seen here uses is known here too.

    Raises:
        OperationFailed: a file is there and cannot be read: nothing may be deleted then.
    """
    layers: dict[str, LayerRecord] = {}
    for file in layer_files(layout):
        layers |= read_layers(read_strictly(file))
    first, *more = (read_strictly(root / f"{layout.driver}-images" / "images.json") for root in layout.writable_roots)
    older = [record for records in more for record in records]
    containers = []
    for file in container_files(layout):
        try:
            containers += [read_container(entry) for entry in read_strictly(file, whole=True)]
        except ValueError as error:
            raise OperationFailed(f"cannot read {file}: {error}") from None
    return InUse(tuple(containers), (*first, *older), layers, tuple(older))


def read_only_layers(layout: Layout) -> dict[str, LayerRecord]:
    """Read the layers of the read-only stores, by ID. Blocks.

    Raises:
        OperationFailed: a file is there and cannot be read.
    """
    found: dict[str, LayerRecord] = {}
    for root in reversed(layout.additional):
        found |= read_layers(read_strictly(root / f"{layout.driver}-layers" / "layers.json"))
    return found


def read_strictly(file: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    """Read a file of records; one that does not exist has none. Blocks.

    Args:
        file: holds an array.
        whole: an element that is no record is an error, and is not left out.

    Raises:
        OperationFailed: it cannot be read, or is no such file.
    """
    try:
        return read_raw(file, whole=whole)
    except OSError as error:
        raise OperationFailed(f"cannot read {file}: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        raise OperationFailed(f"cannot read {file}: {error}") from error
