"""The limits that pulls keep, for all registries and for single ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PullPolicy", "RegistryPolicy"]


@dataclass(frozen=True, slots=True)
class RegistryPolicy:
    """The limits of one registry; 0 is none.

    Attributes:
        progress_timeout: seconds of the registry's silence after which a pull is cut off.
        total_timeout: seconds that a pull may take in all.
        parallel: pulls from this registry at once.
        store_timeout: seconds that a pull may wait for the store or the engine, or unpack nothing.
    """

    progress_timeout: float = 60.0
    total_timeout: float = 0.0
    parallel: int = 0
    store_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class PullPolicy:
    """All limits.

    Attributes:
        default: of every registry that has none of its own.
        registries: registry host, as `registry_host` spells it, to its own limits.
        parallel: pulls at once in all; 0 is no limit.
    """

    default: RegistryPolicy = RegistryPolicy()
    registries: Mapping[str, RegistryPolicy] = field(default_factory=dict)
    parallel: int = 0

    def of(self, registry: str) -> RegistryPolicy:
        """Return the limits of one registry host, in that spelling."""
        return self.registries.get(registry, self.default)
