"""Whether what a server has stays flat: the first third of its last life beside the last third."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soak.samples import MEASURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soak.samples import Sample

__all__ = ["FEWEST", "Verdict", "judged"]

FEWEST = 9
"""Samples of the last life without which nothing is said."""

ALLOWED = {"memory": 12.0, "descriptors": 4.0, "threads": 8.0, "tasks": 4.0, "median": 2.0, "tail": 4.0}
"""How much the median may grow: MiB, numbers, times what a bare server takes. A pool of threads fills."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One measure of one server.

    Attributes:
        backend: of the server.
        measure: one of MEASURES.
        before: median of the first third of the last life.
        after: median of the last third.
        most: the largest of that life.
        allowed: how much more `after` may be.
    """

    backend: str
    measure: str
    before: float
    after: float
    most: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it has not grown by more than is allowed."""
        return self.after - self.before <= self.allowed


def judged(backend: str, samples: Sequence[Sample]) -> list[Verdict]:
    """Judge every measure of a server.

    Raises:
        ValueError: its last life has too few samples for that.
    """
    life = [one for one in samples if samples and one.life == samples[-1].life]
    if len(life) < FEWEST:
        raise ValueError(f"{backend}: only {len(life)} samples of its last life: the run was too short")
    third = len(life) // 3
    verdicts = []
    for measure in MEASURES:
        values = [float(getattr(one, measure)) for one in life]
        before, after = statistics.median(values[:third]), statistics.median(values[-third:])
        # A latency may double before it says anything.
        allowed = max(ALLOWED[measure], before if measure in {"median", "tail"} else 0.0)
        verdicts.append(Verdict(backend, measure, before, after, max(values), allowed))
    return verdicts
