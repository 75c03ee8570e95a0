"""What was measured, round by round, and what it says when two things are compared."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Key(NamedTuple):
    """What a series of values is about.

    Attributes:
        part: of the benchmark, such as `calls`.
        what: was done, such as `ImageStatus, 100 images`.
        side: who did it, such as `containerd`.
    """

    part: str
    what: str
    side: str


@dataclass(slots=True)
class Series:
    """The values of one side, one for each round.

    Attributes:
        unit: `ms`, `calls/s`, `MiB` or `us`.
        values: in the order of the rounds.
    """

    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.values)


class Spread(NamedTuple):
    """The middle of some values.

    Attributes:
        median: half of them are below.
        low: a quarter of them is below.
        high: a quarter of them is above.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        found = sorted(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
        return cls(middle, low, high)


@dataclass(slots=True)
class Results:
    """A run.

    Attributes:
        about: machine, versions, load, client and options, by their names.
        series: what was measured.
        missing: why a part, or a side of all parts, was not measured, by its name.
    """

    about: dict[str, Any] = field(default_factory=dict)
    series: dict[Key, Series] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, key: Key, unit: str, value: float) -> None:
        """Notes the value of another round."""
        self.series.setdefault(key, Series(unit)).values.append(value)

    def sides(self, part: str) -> list[str]:
        """Who was measured in a part, in the order of their first values."""
        return list(dict.fromkeys(key.side for key in self.series if key.part == part))

    def kinds(self, part: str) -> list[str]:
        """What was measured in a part, in the order of the first values."""
        return list(dict.fromkeys(key.what for key in self.series if key.part == part))

    def ratio(self, ours: Key, *bases: Key, less: float = 0.0) -> Spread | None:
        """How one side compares with another one, round by round.

        Args:
            ours: the one.
            bases: the other one; several count together.
            less: taken off our value first, in its unit.

        Returns:
            the middle of the rounds' ratios, or None where one of them was not measured.
        """
        if any(key not in self.series for key in (ours, *bases)):
            return None
        own = self.series[ours].values
        others = [sum(values) for values in zip(*(self.series[key].values for key in bases), strict=False)]
        return Spread.of((one - less) / other for one, other in zip(own, others, strict=False))

    def json(self) -> str:
        """All of it as text, for a file."""
        series = [{**key._asdict(), **asdict(one)} for key, one in self.series.items()]
        return json.dumps({"about": self.about, "missing": self.missing, "series": series}, indent=1) + "\n"

    @classmethod
    def parse(cls, text: str) -> Results:
        """Reads such a file."""
        document = json.loads(text)
        made = cls(document["about"], {}, document["missing"])
        for one in document["series"]:
            made.series[Key(one["part"], one["what"], one["side"])] = Series(one["unit"], one["values"])
        return made
