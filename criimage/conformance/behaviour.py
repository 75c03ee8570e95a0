"""What is asked of a service, as data: each behaviour has a number, a sentence, a reason and a check."""

from __future__ import annotations

import enum
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from criimage.conformance.trial import Trial

__all__ = ["GROUPS", "Behaviour", "Level", "Need", "collected", "group", "selected"]

GROUPS = (
    "list",
    "status",
    "pull",
    "names",
    "credentials",
    "removal",
    "usage",
    "streaming",
    "v1alpha2",
    "errors",
    "concurrency",
    "cancels",
    "hostile",
    "idempotence",
    "restart",
)
"""In the order of reports."""


class Level(enum.Enum):
    """How much of a client depends on a behaviour."""

    REQUIRED = "required"
    """CRI says so, or a kubelet, crictl or critest goes wrong without it."""
    EXTENDED = "extended"
    """Good services do it, and operators notice where it is missing."""


class Need(enum.Flag):
    """What a check needs besides a service and images to pull."""

    NOTHING = 0
    SCRIPTED = enum.auto()
    """A registry of ours: it counts requests, checks credentials, hangs and lies."""
    STREAMING = enum.auto()
    """The service has StreamImages."""
    V1ALPHA2 = enum.auto()
    """The service has v1alpha2."""
    HOSTILE = enum.auto()
    """Leave to send what may end the service."""
    RESTART = enum.auto()
    """A command that restarts the service."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing that a service does, or does not.

    Attributes:
        number: a letter for the group and a number; never used again for something else.
        group: one of GROUPS.
        sentence: what the service does, in one sentence.
        why: which client cares, and how it goes wrong otherwise.
        source: where that is written or was seen.
        level: see Level.
        needs: what the check needs.
        check: raises `Failed` where the service does something else.
    """

    number: str
    group: str
    sentence: str
    why: str
    source: str
    level: Level
    needs: Need
    check: Callable[[Trial], Awaitable[None]]

    def matches(self, pattern: str) -> bool:
        """Whether a pattern of `--only` or `--skip` means it: a glob over its number, group or level, in any case."""
        return any(
            fnmatch.fnmatchcase(text.lower(), pattern.lower()) for text in (self.number, self.group, self.level.value)
        )


_collected: dict[str, Behaviour] = {}


@dataclass(frozen=True, slots=True)
class _Group:
    """Makes the behaviours of one group from the functions that check them."""

    name: str
    needs: Need

    def required(self, number: str, sentence: str, *, why: str, source: str, needs: Need = Need.NOTHING) -> _Adder:
        return _Adder(self, Level.REQUIRED, number, sentence, why, source, needs)

    def extended(self, number: str, sentence: str, *, why: str, source: str, needs: Need = Need.NOTHING) -> _Adder:
        return _Adder(self, Level.EXTENDED, number, sentence, why, source, needs)


@dataclass(frozen=True, slots=True)
class _Adder:
    group: _Group
    level: Level
    number: str
    sentence: str
    why: str
    source: str
    needs: Need

    def __call__(self, check: Callable[[Trial], Awaitable[None]]) -> Callable[[Trial], Awaitable[None]]:
        if self.number in _collected:
            raise ValueError(f"two behaviours have the number {self.number}")
        _collected[self.number] = Behaviour(
            self.number,
            self.group.name,
            self.sentence,
            self.why,
            self.source,
            self.level,
            self.needs | self.group.needs,
            check,
        )
        return check


def group(name: str, needs: Need = Need.NOTHING) -> _Group:
    """Return what adds behaviours to a group.

    Args:
        name: one of GROUPS.
        needs: what each of them needs.
    """
    if name not in GROUPS:
        raise ValueError(f"no such group: {name}")
    return _Group(name, needs)


def collected() -> tuple[Behaviour, ...]:
    """Return every behaviour, by group and number."""
    # They add themselves when they are imported.
    import criimage.conformance.behaviours  # noqa: F401

    return tuple(sorted(_collected.values(), key=lambda one: (GROUPS.index(one.group), int(one.number[1:]))))


def selected(only: Iterable[str], skip: Iterable[str]) -> tuple[Behaviour, ...]:
    """Return the behaviours that one of `only` matches, all where there is none, and none of `skip`."""
    wanted, left_out = tuple(only), tuple(skip)
    return tuple(
        one
        for one in collected()
        if (not wanted or any(map(one.matches, wanted))) and not any(map(one.matches, left_out))
    )
