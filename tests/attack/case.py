"""What an attack is: something hostile that is done to a server, and what must hold afterwards.

To add one, write a coroutine function in a module of `attack.cases` and put `@case(...)` above it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attack.target import Target

__all__ = ["Case", "all_cases", "case"]

Run = Callable[["Target"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One attack.

    Attributes:
        kind: what it belongs to: wire, floods, registry, files, secrets, faults, disks, descriptors ...
        name: what is done.
        run: does it, and fails by AssertionError or TimeoutError if the server does not hold.
        backends: those it is meant for; all where empty.
        first: whether it stands for its kind in CI.
    """

    kind: str
    name: str
    run: Run
    backends: frozenset[str]
    first: bool


_cases: list[Case] = []


def case(kind: str, name: str, *, backends: tuple[str, ...] = (), first: bool = False) -> Callable[[Run], Run]:
    """Make a coroutine function an attack."""

    def add(run: Run) -> Run:
        _cases.append(Case(kind, name, run, frozenset(backends), first))
        return run

    return add


def all_cases() -> list[Case]:
    """Every attack of every module of `attack.cases`."""
    import attack.cases as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"attack.cases.{module.name}")
    return list(_cases)
