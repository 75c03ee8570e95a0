"""Bringing spans to a collector, as the log tells of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from criimage.tracing_otlp import _Delivery, _Reasons

if TYPE_CHECKING:
    from collections.abc import Callable

    Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def delivery() -> tuple[Any, _Delivery]:
    """A delivery and the SDK's exporter in it, which does as it is told."""

    class Exporter:
        result: object = None

        def export(self, _spans: object) -> object:
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

    exporter = Exporter()
    return exporter, _Delivery(exporter, _Reasons())


def test_the_reason_is_the_first_and_the_last_word() -> None:
    """What the exporter says of one delivery: the fault, and what became of it; no more however often it tries."""
    reasons = _Reasons()
    log = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    for number in range(5):
        log.warning("Transient %d", number)
    assert reasons.texts == ["Transient 0", "Transient 4"]


def test_failures_are_told_once_and_so_is_their_end(delivery: tuple[Any, _Delivery]) -> None:
    """Sparingly: one line as it begins, one as it ends, with how many spans were lost."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter, made = delivery
    with capture_logs() as logs:
        for exporter.result in (
            SpanExportResult.SUCCESS,
            SpanExportResult.FAILURE,
            ValueError("odd\x1b"),
            SpanExportResult.FAILURE,
        ):
            made.export([1, 2])
        exporter.result = SpanExportResult.SUCCESS
        made.export([1, 2])
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "traces cannot be delivered"),
        ("info", "traces are delivered again"),
    ]
    assert logs[1]["lost"] == made.lost == 6
