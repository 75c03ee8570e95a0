"""How the tools are told of a store that `imagestore` splits (cri-o V4).

Its images and their files are in one folder, its containers and the list of layers in another. The name of a store as
skopeo takes it has no place for a second root (T2; tried with 1.9.3 and 1.18.0: `overlay.imagestore=` in it is one more
read-only store). A storage.conf has, so skopeo gets one of ours, in memory: it holds what was found out at the start,
and no other file or variable is looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["tools_environment"]


@contextlib.contextmanager
def tools_environment(layout: Layout, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the environment in which `containers-storage:NAME` means this store, as long as it is held.

    Args:
        layout: the store; one that is not split is named in full, and nothing is changed.
        environment: the tools'.
    """
    told = dict(environment)
    if layout.image_store is None:
        yield told
        return
    descriptor = os.memfd_create("storage.conf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, _storage_conf(layout).encode())
        for name in ("STORAGE_DRIVER", "STORAGE_OPTS"):
            told.pop(name, None)
        # By our own process, which outlives its tools: so none of them has to inherit it.
        told["CONTAINERS_STORAGE_CONF"] = f"/proc/{os.getpid()}/fd/{descriptor}"
        if layout.store_options:
            # It stands for all options of storage.conf, read-only stores included.
            told["STORAGE_OPTS"] = ",".join(layout.store_options)
        yield told
    finally:
        os.close(descriptor)


def _storage_conf(layout: Layout) -> str:
    places = {
        "driver": layout.driver,
        "graphroot": str(layout.root),
        "runroot": str(layout.run_root),
        "imagestore": str(layout.image_store),
    }
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in places.items())
    return "".join(["[storage]\n", *lines])
