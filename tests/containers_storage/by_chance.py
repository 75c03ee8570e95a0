"""What several tests do to one store: one operation after the other, chosen by chance and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Awaitable, Callable

__all__ = ["ByChance"]


class ByChance(Protocol):
    """A store and all who work on it.

    Attributes:
        names: of the images in the registry.
        chance: decides everything.
        done: how often each operation succeeded, and how often it was in vain in a way that may be.
    """

    names: list[str]
    chance: random.Random
    done: Counter[str]

    @property
    def operations(self) -> list[tuple[int, Callable[[str], Awaitable[bool]]]]:
        """Each with its weight; told a name, it says whether it succeeded."""
        ...

    async def any(self) -> None:
        """Does something somewhere."""
        weights, operations = zip(*self.operations, strict=True)
        (operation,) = self.chance.choices(operations, weights)
        well = await operation(self.chance.choice(self.names))
        self.done[f"{operation.__name__}{'' if well else ' in vain'}"] += 1
