"""The span of a pull, with one for each of its phases; none where nobody wants traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage import tracing
from criimage.errors import CriimageError

if TYPE_CHECKING:
    from criimage.backend import Phase
    from criimage.pulls.running import Pulled, RunningPull
    from criimage.reference import Reference
    from criimage.tracing import Span

__all__ = ["PullTrace", "begin_trace", "joined"]


class PullTrace:
    """The spans of one pull.

    Args:
        span: of the whole.

    Attributes:
        span: of the whole.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        self._phase: Phase | None = None
        self._part: Span | None = None

    def turned_to(self, candidate: Reference) -> None:
        """Note which candidate it tries now."""
        self.span.happened("candidate", {"criimage.pull.resolved": str(candidate)})

    def reached(self, phase: Phase) -> None:
        """End the phase before, and begin this one."""
        if phase is self._phase:
            return
        self._leave()
        self._phase = phase
        self._part = self.span.child(f"pull {phase.value}", {})

    def ended(self, outcome: Pulled | CriimageError, pull: RunningPull) -> None:
        """End with what came of it."""
        self._leave()
        progress = pull.progress
        failed = isinstance(outcome, CriimageError)
        well = "unchanged" if progress.unchanged else "pulled"
        self.span.tell(
            {
                "criimage.pull.outcome": outcome.kind if isinstance(outcome, CriimageError) else well,
                "criimage.pull.resolved": str(pull.candidate or ""),
                "criimage.pull.bytes": progress.bytes_done,
                "criimage.pull.layers": progress.layers_done,
                "criimage.pull.layers_reused": progress.layers_reused or 0,
                "criimage.pull.callers": pull.callers,
                **({} if failed else {"criimage.image.id": str(outcome.image.id)}),  # type: ignore[union-attr]
            }
        )
        self.span.end(outcome.text if isinstance(outcome, CriimageError) else "")

    def _leave(self) -> None:
        if self._part is not None:
            self._part.end()
            self._part = None


def begin_trace(pull: RunningPull) -> PullTrace | None:
    """Begin the span of a pull, as a part of the call that this context belongs to."""
    traces = tracing.traces()
    if traces is None:
        return None
    attributes = {
        "criimage.pull.id": pull.id,
        "criimage.pull.reference": str(pull.name),
        "k8s.namespace.name": pull.context.namespace,
        "k8s.pod.name": pull.context.pod,
    }
    call = tracing.current()
    span = traces.alone("pull", attributes) if call is None else call.child("pull", attributes)
    trace = PullTrace(span)
    trace.reached(pull.progress.phase)
    return trace


def joined(pull: RunningPull) -> None:
    """Note on the current call's span which pull it waits for."""
    call = tracing.current()
    if call is not None:
        call.tell({"criimage.pull.id": pull.id})
