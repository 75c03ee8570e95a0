"""What the command prints: little where all is well, everything about what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.conformance.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.conformance.exchange import Exchange
    from criimage.conformance.outcome import Result, Summary

__all__ = ["ending_lines", "result_lines", "summary_lines"]

_LEFT_SHOWN = 8
_QUIET = frozenset({Outcome.PASSED, Outcome.NOT_APPLICABLE})


def result_lines(result: Result) -> Iterator[str]:
    """Yield the lines of one result; none where there is nothing to see."""
    if result.outcome in _QUIET:
        return
    behaviour = result.behaviour
    yield f"{result.outcome.value.upper()} {behaviour.number} ({behaviour.group}, {behaviour.level.value}): " + (
        behaviour.sentence
    )
    if result.text:
        yield f"    {result.text}"
    if result.outcome is Outcome.KNOWN:
        return
    yield f"    why: {behaviour.why}"
    yield f"    source: {behaviour.source}"
    for exchange in result.exchanges[-12:]:
        yield from _exchange_lines(exchange)


def _exchange_lines(exchange: Exchange) -> Iterator[str]:
    yield f"    > {exchange.method} {exchange.request}"
    yield f"    < {exchange.error or exchange.answer}  ({exchange.milliseconds:.1f} ms)"


def ending_lines(summary: Summary) -> Iterator[str]:
    """Yield what did not come to its end: the run itself, or its clean-up."""
    if summary.silent_since:
        yield f"the service has not answered since {summary.silent_since}: the rest was not tried"
    if summary.interrupted:
        yield "interrupted: the rest was not tried"
    if summary.left:
        more = len(summary.left) - _LEFT_SHOWN
        yield f"could not be removed: {', '.join(summary.left[:_LEFT_SHOWN])}{f' and {more} more' if more > 0 else ''}"
    elif summary.silent_since or summary.interrupted:
        yield "what was pulled is removed"


def summary_lines(summary: Summary) -> Iterator[str]:
    """Yield what stands at the end; the last line is always of one form."""
    reasons: dict[str, list[str]] = {}
    for one in summary.results:
        if one.outcome is Outcome.NOT_APPLICABLE:
            reasons.setdefault(one.text, []).append(one.behaviour.number)
    for reason, numbers in reasons.items():
        yield f"not applicable: {reason}: {' '.join(numbers)}"
    yield from ending_lines(summary)
    if summary.known_of:
        yield f"known differences: {summary.known_of}"
    errors = summary.count(Outcome.SUITE_ERROR)
    if errors:
        yield f"{errors} suite errors: the suite's own fault, or a part of it that is missing"
    yield f"{summary.server} at {summary.endpoint}, {summary.seconds:.1f} s"
    yield summary.line
