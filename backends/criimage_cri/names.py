"""What a name means to the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage.catalogue import qualified
from criimage.reference import Name, Reference

if TYPE_CHECKING:
    from criimage_cri.runtimes import Runtime

__all__ = ["meaning"]


@dataclass(frozen=True, slots=True)
class _ShortReference(Reference):
    """A name whose registry the runtime finds by a configuration that only it knows; equal to no complete reference.

    Limits of registries, and credentials for one, take it for docker.io's.
    """

    typed: str = ""

    def __str__(self) -> str:
        return self.typed


def meaning(name: Name, runtime: Runtime) -> Reference:
    """Return the one reference that a name means.

    Raises:
        InvalidRequest: the name is too long.
    """
    reference = qualified(name)
    if name.domain is not None or runtime.short_names_are_dockers:
        return reference
    typed = str(name) if name.tag or name.digest else f"{name}:{reference.tag}"
    return _ShortReference(reference.domain, reference.path, reference.tag, reference.digest, typed)
