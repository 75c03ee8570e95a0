"""How the check of a behaviour ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from criimage.conformance.behaviour import Behaviour
    from criimage.conformance.exchange import Exchange

__all__ = ["Failed", "NotApplicable", "Outcome", "Result", "Summary"]


class Failed(Exception):
    """The service does something else.

    Args:
        text: what was expected, and what came, in one sentence each.
    """


class NotApplicable(Exception):
    """The question does not arise with this service or this registry; the text says why."""


class Outcome(enum.Enum):
    """What is said of one behaviour."""

    PASSED = "passed"
    FAILED = "failed"
    KNOWN = "known difference"
    UNEXPECTED = "unexpected pass"
    """A known difference that is none any more; counts as failed, so that the list of them stays true."""
    NOT_APPLICABLE = "not applicable"
    SUITE_ERROR = "suite error"
    """Our own fault, or a part of the suite that is missing."""


@dataclass(frozen=True, slots=True)
class Result:
    """One behaviour and how it ended.

    Attributes:
        behaviour: which.
        outcome: see Outcome.
        text: what was expected and what came, the reason of a difference, or why it does not apply; may be empty.
        exchanges: the calls that the check made, in order.
        seconds: how long it took.
    """

    behaviour: Behaviour
    outcome: Outcome
    text: str = ""
    exchanges: tuple[Exchange, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run.

    Attributes:
        server: what answers, such as `containerd 1.6.20`.
        endpoint: its socket.
        started: RFC 3339, UTC.
        seconds: how long it took.
        results: one for each behaviour that was tried, or that does not apply.
        left: names or IDs of images that could not be removed at the end.
        interrupted: ended before everything was tried.
        silent_since: number of the behaviour after which the service answered no more; the rest was not tried.
        known_of: which service the known differences are of; empty without any.
        repeated_by: the command that repeats the run.
    """

    server: str
    endpoint: str
    started: str
    seconds: float
    results: tuple[Result, ...]
    left: tuple[str, ...] = field(default=())
    interrupted: bool = False
    known_of: str = ""
    repeated_by: str = ""
    silent_since: str = ""

    def count(self, *outcomes: Outcome) -> int:
        """How many ended so."""
        return sum(1 for one in self.results if one.outcome in outcomes)

    @property
    def line(self) -> str:
        """The last line of a report."""
        failed = self.count(Outcome.FAILED, Outcome.UNEXPECTED)
        return (
            f"{self.count(Outcome.PASSED)} passed, {failed} failed, {self.count(Outcome.KNOWN)} known, "
            f"{self.count(Outcome.NOT_APPLICABLE)} not applicable"
        )

    @property
    def exit_code(self) -> int:
        """0 all is well; 1 something failed; 2 the suite itself could not do its work."""
        if self.interrupted or self.silent_since or self.left or self.count(Outcome.SUITE_ERROR):
            return 2
        return 1 if self.count(Outcome.FAILED, Outcome.UNEXPECTED) else 0
