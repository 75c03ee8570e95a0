"""What a verbose status adds: the labels, and the `info` object that cri-dockerd and CRI-O give (S7-S10)."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from criimage.foreign_json import dump, plain_or_json
from criimage_docker.engine.records import labels_of, section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["verbose_info"]

_INFO = "info"
_STATUS = "status"
_CONFIG = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
)


def verbose_info(inspected: Mapping[str, Any], history: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the `info` map of a verbose status.

    Every label stands in it verbatim under its own key, as with dockershim (S7), unless it would break a client: crictl
    prints each key beside `status` and wants a value that begins with a brace to be JSON (S8). Such labels are in the
    `info` object only. That is cri-dockerd's (S9), except that a missing creation time is left out where cri-dockerd
    fails.

    Args:
        inspected: the engine's answer about the image.
        history: the newest step first, as the engine gives it.
    """
    labels = labels_of(inspected)
    document: dict[str, object] = {"labels": labels} if labels else {}
    document["imageSpec"] = _spec(inspected, history)
    harmless = {key: value for key, value in labels.items() if key not in {_INFO, _STATUS} and plain_or_json(value)}
    return {**harmless, _INFO: dump(document)}


def _spec(inspected: Mapping[str, Any], history: Iterable[Mapping[str, Any]]) -> dict[str, object]:
    config = section(inspected, "Config")
    layers = section(inspected, "RootFS")
    spec = {
        "created": inspected.get("Created"),
        "author": inspected.get("Author"),
        "architecture": inspected.get("Architecture"),
        "os": inspected.get("Os"),
    }
    found: dict[str, object] = {key: value for key, value in spec.items() if value}
    found["config"] = {key: config[key] for key in _CONFIG if config.get(key)}
    found["rootfs"] = {"type": layers.get("Type") or "layers", "diff_ids": layers.get("Layers") or []}
    # The engine tells the newest step first, an image's config the oldest.
    found["history"] = [_step(step) for step in reversed(list(history))]
    return found


def _step(step: Mapping[str, Any]) -> dict[str, object]:
    created = step.get("Created")
    found: dict[str, object] = {}
    if isinstance(created, int):
        # Go's zero time, year 1, can be told; earlier and very late ones exist nowhere but in hand-made images.
        with contextlib.suppress(ValueError, OverflowError, OSError):
            found["created"] = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for key, ours in (("CreatedBy", "created_by"), ("Comment", "comment")):
        if step.get(key):
            found[ours] = step[key]
    if not step.get("Size"):
        found["empty_layer"] = True
    return found
