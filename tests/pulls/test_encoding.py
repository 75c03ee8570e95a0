"""The bytes that tell of pulls, against the generated messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from criimage.backend import Phase, PullProgress
from criimage.cri.criimage.v1 import ListPullsResponse, Pull, PullPhase, PullWaiter, WatchPullsResponse
from criimage.pulls.running import PullView
from criimage.server.services.pull_service import encode_pulls

_bytes = st.integers(0, 2**63)
_layers = st.integers(0, 2**31)
_texts = st.text(max_size=8)
_progress = st.builds(
    PullProgress,
    st.sampled_from(Phase),
    bytes_done=_bytes,
    bytes_total=st.none() | _bytes,
    layers_done=_layers,
    layers_total=st.none() | _layers,
    layers_reused=st.none() | _layers,
)
_views = st.builds(
    PullView,
    id=_texts,
    reference=_texts,
    resolved=_texts,
    progress=_progress,
    rate=st.floats(0, 1e12),
    started=st.floats(0, 4e9),
    waiters=st.lists(_texts, max_size=3).map(tuple),
)


def _generated(view: PullView) -> Pull:
    progress = view.progress
    return Pull(
        id=view.id,
        reference=view.reference,
        resolved=view.resolved,
        phase=PullPhase.from_string(progress.phase.name),
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total or 0,
        layers_done=progress.layers_done,
        layers_total=progress.layers_total or 0,
        layers_reused=progress.layers_reused or 0,
        bytes_per_second=round(view.rate),
        started=round(view.started * 1e9),
        waiters=[PullWaiter(pod=pod) for pod in view.waiters],
    )


@given(st.lists(_views, max_size=3))
@hypothesis_settings(deadline=None)
def test_pulls_are_encoded_as_their_messages_are(views: list[PullView]) -> None:
    """A list and a watch are the same bytes, those of the messages that clients are generated from."""
    pulls = [_generated(view) for view in views]
    assert encode_pulls(views) == bytes(ListPullsResponse(pulls=pulls)) == bytes(WatchPullsResponse(pulls=pulls))
