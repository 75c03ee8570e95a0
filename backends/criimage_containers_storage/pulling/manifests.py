"""What a registry's manifest or index says, as far as we look into it ourselves."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criimage.foreign_json import parse

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from criimage_containers_storage.pulling.proxy_protocol import Found
    from criimage_containers_storage.store.snapshot import Stored

__all__ = ["LayersToFetch", "instances", "is_encrypted", "is_stored", "is_stored_as", "layers_to_fetch"]

_SIZE_LIMIT = 2**63
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class LayersToFetch:
    """What a manifest names, compared with what is here.

    Attributes:
        sizes: compressed bytes of each layer that is not here.
        reused: how many are.
    """

    sizes: tuple[int, ...] = ()
    reused: int = 0


def is_stored(manifest: bytes, stored: Stored) -> bool:
    """Tell whether pulling this manifest or index again would give exactly what is stored (P6-P9).

    Equal bytes mean an equal config. False where only skopeo can know, and for schema 1.
    """
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    if digest == stored.record.manifest_digest:
        return bool(stored.facts.config_digest)
    return digest in stored.facts.digests and instances(manifest) == [stored.record.manifest_digest]


def is_stored_as(found: Found, stored: Stored) -> bool:
    """Tell the same of what skopeo has told about a manifest; an index whose digest it does not tell is another one."""
    if not stored.facts.config_digest or found.instance != stored.record.manifest_digest:
        return False
    return found.top in stored.facts.digests


def instances(index: bytes) -> list[str]:
    """Return the digests that an index lists for this machine; several differ in a variant that skopeo chooses by."""
    listed = _object(index).get("manifests")
    found = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return [str(entry.get("digest")) for entry in found if _fits(entry.get("platform"))]


def layers_to_fetch(manifest: bytes, present: Collection[str]) -> LayersToFetch | None:
    """Return which of a manifest's layers are not `present`, each counted once, or None if it is no manifest (T13)."""
    layers = _object(manifest).get("layers")
    if not isinstance(layers, list):
        return None
    wanted = {str(one.get("digest")): one.get("size") for one in layers if isinstance(one, dict)}
    # A registry can write any number there; it is told on the wire and counted by the metrics.
    sizes = tuple(
        size
        for digest, size in wanted.items()
        if digest not in present and type(size) is int and 0 <= size < _SIZE_LIMIT
    )
    return LayersToFetch(sizes, sum(digest in present for digest in wanted))


def is_encrypted(manifest: bytes) -> bool:
    """Tell whether a layer of this manifest can only be unpacked with a key (P16)."""
    layers = _object(manifest).get("layers")
    found = [one for one in layers if isinstance(one, dict)] if isinstance(layers, list) else []
    return any(str(one.get("mediaType")).endswith("+encrypted") for one in found)


def _fits(wanted: Any) -> bool:  # noqa: ANN401 - JSON can hold anything here
    machine = platform.machine()
    return (
        isinstance(wanted, dict)
        and wanted.get("os") == "linux"
        and wanted.get("architecture") == _GO_ARCHITECTURES.get(machine, machine)
    )


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = parse(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
