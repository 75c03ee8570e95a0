"""Which manifest is which pull's: containerd does not say, so what can be told for certain is worked out (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from criimage.reference import Reference
    from criimage_cri.content import Manifest

__all__ = ["Known", "attribute"]

KeyT = TypeVar("KeyT")


@dataclass(frozen=True, slots=True)
class Known:
    """A manifest of one repository that is here.

    Attributes:
        manifest: of an image.
        touched: when a pull last had to do with it, nanoseconds since the epoch: containerd labels it each time, also
            where it is here already.
        names: its own digest and those of the indexes that have it.
    """

    manifest: Manifest
    touched: int
    names: frozenset[str] = field(default=frozenset())


def attribute(pulls: Mapping[KeyT, tuple[Reference, int]], known: Collection[Known]) -> dict[KeyT, Manifest]:
    """Return the manifests that can be nobody else's, for pulls of one repository that have none yet.

    A pull has a manifest that was touched after its beginning, and by digest the one of that digest; but only if no
    other pull can have it, and it can have no other. Where that leaves pulls over, nothing is guessed: they are told by
    phase and time.

    Args:
        pulls: by any key: what is pulled, and when it began.
        known: manifests that no other pull has.
    """
    left, free = dict(pulls), list(known)
    found: dict[KeyT, Manifest] = {}
    while True:
        options = {key: [one for one in free if _may_have(*pull, one)] for key, pull in left.items()}
        claimed = {key: [one for one in mine if _only_of(key, one, options)] for key, mine in options.items()}
        sure = {key: mine[0] for key, mine in claimed.items() if len(mine) == 1}
        if not sure:
            return found
        for key, one in sure.items():
            found[key] = one.manifest
            del left[key]
            free.remove(one)


def _may_have(reference: Reference, began: int, one: Known) -> bool:
    return one.touched >= began and (reference.digest is None or reference.digest in one.names)


def _only_of(key: KeyT, one: Known, options: Mapping[KeyT, Iterable[Known]]) -> bool:
    return all(one not in others for other, others in options.items() if other is not key)
