"""What the spans of calls and pulls say (issue 14 B), without anybody who collects them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import MagicMock, create_autospec

import pytest

from criimage import errors, tracing
from criimage.backend import Phase, PullProgress
from pulls.clock import on_a_clock, settle
from pulls.fake_backend import setting

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[MagicMock]:
    """Stands in for what makes spans."""
    made: MagicMock = create_autospec(tracing.Traces, instance=True)
    monkeypatch.setattr(tracing, "_traces", made)
    yield made
    tracing.enter(None)


def a_span() -> MagicMock:
    """A call's span, whose parts are spans of their own."""
    span: MagicMock = create_autospec(tracing.Span, instance=True)
    span.child.side_effect = lambda *_: create_autospec(tracing.Span, instance=True)
    return span


@pytest.mark.usefixtures("traces")
@on_a_clock
async def test_each_call_says_which_pull_it_waits_for() -> None:
    """The pull is a part of the call that began it; one that came later has its ID, and no pull of its own."""
    async with setting() as at:
        spans = [a_span(), a_span()]
        for span in spans:
            tracing.enter(span)
            await at.call("a.example/x:1")
        (attempt,) = at.attempts
        (view,) = at.pulls.running()
        attempt.succeed()
        await settle()

    assert [span.child.call_count for span in spans] == [1, 0]
    assert [span.tell.call_args_list[0].args[0] for span in spans] == [{"criimage.pull.id": view.id}] * 2


@on_a_clock
async def test_a_pull_tells_its_phases_and_its_end(traces: MagicMock) -> None:
    """Without a call of ours it is a trace of its own; no phase begins before the last has ended; an error is told."""
    pull, parts = a_span(), list[tuple[str, MagicMock]]()

    def child(name: str, _: object) -> MagicMock:
        assert all(part.end.called for _, part in parts)
        parts.append((name, create_autospec(tracing.Span, instance=True)))
        return parts[-1][1]

    pull.child.side_effect = child
    traces.alone.return_value = pull
    async with setting() as at:
        await at.call("a.example/x:1", namespace="ns", pod="pod")
        (attempt,) = at.attempts
        for phase in (Phase.RESOLVING, Phase.DOWNLOADING, Phase.DOWNLOADING, Phase.UNPACKING):
            attempt.report(PullProgress(phase, 7))
        attempt.fail(errors.RegistryUnavailable("no answer"))
        await settle()

    began = traces.alone.call_args.args[1]
    assert (began["criimage.pull.reference"], began["k8s.namespace.name"]) == ("a.example/x:1", "ns")
    names = [name for name, _ in parts]
    assert names[-3:] == [f"pull {phase.value}" for phase in (Phase.RESOLVING, Phase.DOWNLOADING, Phase.UNPACKING)]
    assert len(names) == len(set(names))
    assert all(part.end.call_count == 1 for _, part in parts)
    told = pull.tell.call_args.args[0]
    assert (told["criimage.pull.bytes"], told["criimage.pull.callers"]) == (7, 1)
    assert told["criimage.pull.outcome"] == errors.RegistryUnavailable("").kind
    pull.end.assert_called_once_with("no answer")
