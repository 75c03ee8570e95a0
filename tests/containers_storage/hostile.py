"""Images that an ordinary builder would never make."""

from __future__ import annotations

import dataclasses
import json

from criimage.testing.oci import OCI_CONFIG, OCI_MANIFEST, Blob, Image, image, layer

DEEP = "[" * 3000 + "]" * 3000
"""JSON that Go reads and Python does not."""


def with_config(config: bytes, *, annotations: dict[str, str] | None = None) -> Image:
    """An image whose config is these bytes.

    Args:
        config: anything.
        annotations: of the manifest.
    """
    small = image(layer({"a": b"a"}))
    blob = Blob.of(OCI_CONFIG, config)
    manifest = json.loads(small.manifest.data) | {"config": blob.descriptor, "annotations": annotations or {}}
    return dataclasses.replace(small, config=blob, manifest=Blob.of(OCI_MANIFEST, json.dumps(manifest).encode()))


def with_more(more: str, *, run: str = "{}") -> Image:
    """An image that could run, with more in its config.

    Args:
        more: JSON text of one more value, which no tool knows.
        run: JSON text of what containers inherit: user, labels and so on.
    """
    small = image(layer({"a": b"a"}))
    known = json.loads(small.config.data)
    del known["config"]
    return with_config(f'{json.dumps(known)[:-1]}, "config": {run}, "more": {more}}}'.encode())
