"""Traces of calls and pulls, for whoever keeps them: nothing is made up unless `use` was called.

What makes the spans, and brings them to a collector, is `criimage.tracing_otlp`; here is what the rest knows of it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["HEADERS", "Span", "Traces", "Value", "current", "enter", "lost", "outgoing", "traces", "use"]

HEADERS = ("traceparent", "tracestate")
"""What a caller tells its trace by (W3C Trace Context)."""

Value = str | int | float | bool


class Span(Protocol):
    """A piece of work with a beginning and an end; whatever is done to it never waits and never fails."""

    def child(self, name: str, attributes: Mapping[str, Value]) -> Span:
        """Begin a part of it."""

    def tell(self, attributes: Mapping[str, Value]) -> None:
        """Add what is known of it."""

    def happened(self, name: str, attributes: Mapping[str, Value]) -> None:
        """Note an event."""

    def end(self, error: str = "") -> None:
        """End it; with what went wrong, if anything did."""

    def headers(self) -> dict[str, str]:
        """Return what the next one in the row is told the trace by."""


class Traces(Protocol):
    """Makes spans that belong to no other of ours."""

    def call(self, name: str, attributes: Mapping[str, Value], header: Callable[[str], str]) -> Span:
        """Begin the span of a call, in the trace that its headers name; `header` gives the empty text for none."""

    def alone(self, name: str, attributes: Mapping[str, Value]) -> Span:
        """Begin a trace."""

    def stop(self) -> None:
        """Take no more, and begin to deliver the rest, in a thread."""

    def lost(self) -> int:
        """How many spans the collector has not taken."""


_traces: Traces | None = None
_current: ContextVar[Span | None] = ContextVar("span", default=None)


def use(made: Traces | None) -> None:
    """Make spans by this from now on; None for none."""
    global _traces
    _traces = made


def traces() -> Traces | None:
    """Return what makes spans; None where nobody wants any."""
    return _traces


def lost() -> int:
    """Return how many spans the collector has not taken."""
    return 0 if _traces is None else _traces.lost()


def enter(span: Span | None) -> None:
    """Let everything that this context does from now on belong to a span."""
    _current.set(span)


def current() -> Span | None:
    """Return the span that this context works for."""
    return _current.get()


def outgoing() -> dict[str, str]:
    """Return the headers for a request that is made for the current span; none without one."""
    span = _current.get()
    return {} if span is None else span.headers()
