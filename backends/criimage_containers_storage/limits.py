"""What cannot be safe with the tools that are here (`config check` prints it)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from criimage.backend import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["limits"]

_SEES_VOLATILE_FROM = (1, 11)
_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def limits(version: str) -> tuple[Problem, ...]:
    """Return what an operator should know although everything works.

    Args:
        version: of skopeo; empty if it is not known.
    """
    return tuple(_of_skopeo(version))


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
