"""What cannot be safe, or is left out, with the tools and stores that are here (`config check` prints it)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from criimage.backend import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["limits"]

_SEES_VOLATILE_FROM = (1, 11)
_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def limits(layout: Layout, version: str) -> tuple[Problem, ...]:
    """Return what an operator should know although everything works. Blocks on a stat for each additional store.

    Args:
        layout: the stores.
        version: of skopeo; empty if it is not known.
    """
    return (*_of_skopeo(version), *_of_stores(layout))


def _of_skopeo(version: str) -> Iterator[Problem]:
    numbers = _NUMBERS.match(version)
    if numbers is not None and tuple(map(int, numbers.groups())) >= _SEES_VOLATILE_FROM:
        return
    name = f"skopeo {version}" if version else "this skopeo"
    yield Problem(
        f"{name} does not see CRI-O's containers when it deletes an image; criimage looks for them directly before, "
        "but a container that is made in that very moment loses its files",
        "use skopeo 1.11 or later where CRI-O works on the same store",
    )
    yield Problem(
        f"{name} counts on a layer that another tool was writing when it was killed (kill -9, out of memory): an image "
        "may lack a layer then",
        "use skopeo 1.11 or later where several tools fill one store",
    )


def _of_stores(layout: Layout) -> Iterator[Problem]:
    for root in layout.additional:
        folder = root / f"{layout.driver}-images"
        try:
            there = folder.is_dir()
        except OSError as error:
            yield Problem(
                f"the additional store {root} cannot be read: {error.strerror}", "mount it, or mend its rights"
            )
            continue
        if not there:
            yield Problem(
                f"the additional store {root} has no {folder.name}: its images are not here",
                "mount it, or take it out of additionalimagestores",
            )
