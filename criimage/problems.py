"""What is wrong with the service at the moment, apart from what its backend's own check finds.

Whoever notices says so here once and takes it back when it is over. Health, `Status`, the metric and `criimage status`
all read it, so they agree. One set for the whole process, as logs have one: a backend that is opened by the core needs
no argument for it.
"""

from __future__ import annotations

import structlog

from criimage.backend import Problem

__all__ = ["Problem", "forget", "over", "standing", "tell"]

_log = structlog.get_logger(__name__)
_standing: dict[str, Problem] = {}


def tell(source: str, problem: Problem) -> None:
    """Let `problem` stand until it is over, in the place of an earlier one of the same source; logged when it is new.

    Args:
        source: what it is about, the same text each time: `socket`, `task reload`.
        problem: what is wrong, without secrets and without text that has not been cleaned.
    """
    if _standing.get(source) == problem:
        return
    _standing[source] = problem
    _log.error("a problem stands", source=source, problem=problem.text, remedy=problem.remedy)


def over(source: str) -> None:
    """Take back what stands for `source`; nothing happens if nothing does."""
    if _standing.pop(source, None) is not None:
        _log.info("a problem is over", source=source)


def forget(source: str) -> None:
    """Take back what stands for `source` because nobody looks any more: it may well go on, so its end is not told."""
    _standing.pop(source, None)


def standing() -> dict[str, Problem]:
    """Return what stands now, by source, the oldest first."""
    return dict(_standing)
