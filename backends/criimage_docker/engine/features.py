"""What an engine's version and store mean for how far its events and its list can be trusted.

Tried on 20.10, 26.1 and 28.5, with graph drivers and with the containerd store (docker A8 and Corrections).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criimage.backend import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UNKNOWN", "Features"]

_CONTAINERD = "io.containerd.snapshotter.v1"
_CRI_DOCKERD = (1, 42)
"""What cri-dockerd needs since its change 346 (G3)."""
_TELLS_ALL = (1, 51)
"""The API of 28.5: a commit or build without a name and each image of a prune have events there. 26.1 (1.45) is silent
about the former, and in its containerd store about both; what is in between was not tried and is not trusted."""


@dataclass(frozen=True, slots=True)
class Features:
    """What one engine has.

    Attributes:
        version: the API version that is spoken.
        containerd_store: whether containerd keeps the images; None where the engine did not say.
    """

    version: tuple[int, int]
    containerd_store: bool | None

    @classmethod
    def of(cls, version: tuple[int, int], info: Mapping[str, Any]) -> Features:
        """Read the engine's account of itself."""
        driver = info.get("DriverStatus")
        pairs = [pair for pair in driver if isinstance(pair, list)] if isinstance(driver, list) else []
        return cls(version, any(pair[1:] == [_CONTAINERD] for pair in pairs))

    @property
    def limits(self) -> tuple[Problem, ...]:
        """What this engine cannot be brought to do."""
        found = []
        spoken = ".".join(map(str, self.version))
        if self.version < _CRI_DOCKERD:
            found.append(
                Problem(
                    f"the engine speaks API {spoken}: the newest cri-dockerd does not start beside it, it needs 1.42",
                    "take Docker Engine 23.0 or later, or an older cri-dockerd",
                )
            )
        if not self.tells_all:
            removed = (
                "a commit or build without a name" if self.tells_removals else "prunes, and commits without a name"
            )
            found.append(
                Problem(
                    f"the engine (API {spoken}) does not tell of {removed}: lists show them up to 5 s late",
                    "nothing is wrong with statuses, pulls and removals; 28.5 and later tell everything",
                )
            )
        if self.containerd_store is False:
            found.append(
                Problem(
                    "a graph driver keeps the connection of a cancelled pull to a registry that hangs, until "
                    "its next byte comes",
                    "the pull itself ends at once, and nothing is stored; the containerd image store closes it too",
                )
            )
        return tuple(found)

    @property
    def tells_all(self) -> bool:
        """Whether every change of an image has an event."""
        return self.version >= _TELLS_ALL

    @property
    def tells_removals(self) -> bool:
        """Whether no image and no name goes away without an event."""
        return self.tells_all or self.containerd_store is False


UNKNOWN = Features((0, 0), None)
"""Of an engine that was not asked, or did not answer: nothing of it is trusted."""
