"""What is written down of pulls: lines in the log, figures for Prometheus; never a secret."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from criimage import errors
from criimage.backend import Phase, PullProgress
from criimage.credentials import Credentials
from criimage.metrics import PrometheusMetrics, error_kinds
from criimage.pulls.audit import PROGRESS_SECONDS
from pulls.clock import on_a_clock
from pulls.fake_backend import left, setting

if TYPE_CHECKING:
    from pulls.fake_backend import Setting

CANARY = "canary-7f3a9c"
SECRETS = Credentials("bob", CANARY, CANARY, CANARY, "a.example")


def lines(logs: list[Any], event: str) -> list[Any]:
    return [line for line in logs if line["event"] == event]


@on_a_clock
async def test_the_line_of_a_finished_pull() -> None:
    """Asked and resolved, digest, bytes, layers, duration, who, whose credentials, outcome (issue 5, audit)."""
    with capture_logs() as logs:
        async with setting() as at:
            at.backend.meanings["x:1"] = ("a.example/x:1",)
            tasks = [await at.call("x:1", SECRETS, "ns", f"pod{number}") for number in range(2)]
            progress = PullProgress(Phase.DONE, 900, 900, 3, 3, layers_reused=2, credential_source="request")
            at.attempts[0].report(progress)
            at.attempts[0].succeed()
            await asyncio.gather(*tasks)
            digest = at.attempts[0].image.digests[0].digest
    (started,) = lines(logs, "pull started")
    assert started["candidates"] == ["a.example/x:1"]
    (line,) = lines(logs, "pull finished")
    assert line.pop("seconds") >= 0
    assert line == {
        "event": "pull finished",
        "log_level": "info",
        "pull": "1",
        "reference": "x:1",
        "resolved": "a.example/x:1",
        "namespace": "ns",
        "pod": "pod0",
        "asked_by": [],
        "phase": "done",
        "bytes": 900,
        "bytes_total": 900,
        "layers": 3,
        "layers_total": 3,
        "layers_reused": 2,
        "callers": 2,
        "credentials": "request",
        "outcome": "pulled",
        "image": str(at.attempts[0].image.id),
        "digest": digest,
    }
    assert CANARY not in json.dumps(logs, default=repr)


@on_a_clock
async def test_the_line_of_a_failed_pull() -> None:
    """The kind as outcome and the text; the secret is nowhere, also not in what the backend's fault left behind."""
    with capture_logs() as logs:
        async with setting() as at:
            task = await at.call("a.example/x:1", SECRETS)
            at.attempts[0].fail(errors.AccessDenied("unauthorized: a.example/x:1"))
            await asyncio.wait({task})
            faulty = await at.call("a.example/y:1", SECRETS)
            at.attempts[1].fail(KeyError("fault"))
            await asyncio.wait({faulty})
    failed, internal = lines(logs, "pull failed")
    assert (failed["log_level"], failed["outcome"]) == ("warning", "access_denied")
    assert failed["error"] == "unauthorized: a.example/x:1"
    assert (failed["phase"], internal["outcome"]) == ("failed", "failed")
    (fault,) = lines(logs, "fault in the backend")
    assert fault["exc_info"]
    assert CANARY not in json.dumps(logs, default=repr)


@pytest.mark.parametrize(
    ("credentials", "source"),
    [
        (None, "none in the request"),
        (Credentials("bob", CANARY), "request"),
        (Credentials("bob", CANARY, server_address="b.example"), "withheld"),
    ],
)
def test_the_source_of_the_credentials(credentials: Credentials | None, source: str) -> None:
    """What the core knows of it, where the backend says nothing."""

    @on_a_clock
    async def run() -> None:
        with capture_logs() as logs:
            async with setting() as at:
                task = await at.call("a.example/x:1", credentials)
                at.attempts[0].succeed()
                await task
        assert lines(logs, "pull finished")[0]["credentials"] == source

    run()


@on_a_clock
async def test_a_long_pull_is_logged_on_its_way() -> None:
    """A line at a steady interval, with how far it is and for how many; none once it is over."""
    with capture_logs() as logs:
        async with setting() as at:
            task = await at.call("a.example/x:1", None, "ns", "p")
            at.attempts[0].downloading(5, 10)
            await asyncio.sleep(3.5 * PROGRESS_SECONDS)
            at.attempts[0].succeed()
            await task
            await asyncio.sleep(3 * PROGRESS_SECONDS)
    found = lines(logs, "pull goes on")
    assert len(found) == 3
    assert {(line["bytes"], line["bytes_total"], line["waiters"], line["phase"]) for line in found} == {
        (5, 10, 1, "downloading")
    }


async def some_pulls(at: Setting) -> None:
    """One pulled, one unchanged, one denied, one cut off, one abandoned, one still running."""
    for name in ("pulled", "unchanged", "denied"):
        task = await at.call(f"a.example/{name}")
        attempt = at.attempts[-1]
        if name == "denied":
            attempt.fail(errors.AccessDenied("x"))
        else:
            attempt.report(PullProgress(Phase.DONE, 1000 if name == "pulled" else 0, unchanged=name == "unchanged"))
            attempt.succeed()
        await asyncio.wait({task})
    task = await at.call("a.example/hangs")
    at.attempts[-1].downloading(234)
    await asyncio.wait({task})
    await left(await at.call("a.example/abandoned"))
    await at.call("a.example/running")


@on_a_clock
async def test_figures() -> None:
    """In progress, bytes, duration, successes, unchanged and failures by kind; every kind there from the start."""
    metrics = PrometheusMetrics("fake", ["PullImage"], error_kinds())
    async with setting() as at:
        at.pulls.measure_with(metrics)
        before = generate_latest(metrics.registry).decode()
        for kind in ("timeout", "access_denied", "cancelled", "registry_unavailable", "failed"):
            assert f'criimage_pulls_failures_total{{backend="fake",kind="{kind}"}} 0.0' in before
        await some_pulls(at)
        after = generate_latest(metrics.registry).decode()
    for series in (
        'criimage_pulls_in_progress{backend="fake"} 1.0',
        'criimage_pulls_success_total{backend="fake"} 2.0',
        'criimage_pulls_unchanged_total{backend="fake"} 1.0',
        'criimage_pulls_bytes_total{backend="fake"} 1234.0',
        'criimage_pulls_seconds_count{backend="fake"} 5.0',
        'criimage_pulls_failures_total{backend="fake",kind="access_denied"} 1.0',
        'criimage_pulls_failures_total{backend="fake",kind="timeout"} 1.0',
        'criimage_pulls_failures_total{backend="fake",kind="cancelled"} 1.0',
    ):
        assert series in after
    assert 'criimage_pulls_in_progress{backend="fake"} 0.0' in generate_latest(metrics.registry).decode()
    assert "example" not in after  # never an image's name


class Figures:
    """Keeps what is measured of pulls."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, str]] = []
        self.counted: list[tuple[int, int]] = []

    def pulls_running(self, count: int) -> None:
        """Not of interest here."""

    def pull_ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """Keeps all."""
        self.ended.append((bytes_done, outcome))

    def layers(self, fetched: int, reused: int) -> None:
        """Keeps all."""
        self.counted.append((fetched, reused))


@on_a_clock
async def test_what_is_measured_of_an_ended_pull() -> None:
    """Its bytes, its outcome, and its layers: fetched, and here before."""
    figures = Figures()
    async with setting() as at:
        at.pulls.measure_with(figures)
        task = await at.call("a.example/x:1")
        at.attempts[0].report(PullProgress(Phase.DOWNLOADING, 7, 7, layers_done=2, layers_total=2, layers_reused=3))
        at.attempts[0].succeed()
        await task
    assert figures.ended == [(7, "pulled")]
    assert figures.counted == [(2, 3)]
