"""Sizes in manifests, which a registry writes and nobody has checked yet when they are told."""

from __future__ import annotations

import json

from criimage_containers_storage.pulling.manifests import layers_to_fetch
from criimage_cri.content import read_manifest


def test_sizes_that_are_none_do_not_count() -> None:
    """They are counted by the metrics and told on the wire, which has 64 bits: no other number passes."""
    sizes: list[object] = [5, 0, -1, True, 10**100, 2**63, "7", None, 1.5, 2**63 - 1]
    layers = [{"digest": f"sha256:{number:064x}", "size": size} for number, size in enumerate(sizes)]
    document = json.dumps({"layers": layers}).encode()
    at_the_runtime, to_fetch = read_manifest("sha256:" + "a" * 64, document), layers_to_fetch(document, ())
    assert at_the_runtime is not None
    assert list(at_the_runtime.layers.values()) == [5, 0, 2**63 - 1]
    assert to_fetch is not None
    assert to_fetch.sizes == (5, 0, 2**63 - 1)
