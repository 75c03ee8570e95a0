"""The table of `criimage pulls --watch`, without a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from criimage.cli import progress
from criimage.cli.progress import LiveTable
from criimage.cri.criimage.v1 import Pull, PullPhase, PullWaiter


def pull(number: int, phase: int, done: int = 0) -> Pull:
    name, second = f"registry.example.com/app{number}:1", 10**9
    return Pull(id=str(number), reference=name, phase=PullPhase(phase), started=number * second, bytes_done=done)


def text(table: LiveTable) -> list[str]:
    shown = io.StringIO()
    Console(file=shown, width=160).print(table.table())
    return shown.getvalue().splitlines()


def test_what_has_ended_stays_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of an ended pull goes after some seconds if others run, stays as the last thing seen if none does."""
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(time=lambda: now))
    table = LiveTable("No pulls are running.")
    assert text(table) == []  # nothing is known yet, and an error may be what comes
    table.update([])
    assert text(table) == ["No pulls are running."]
    running = pull(2, PullPhase.DOWNLOADING, 5)
    table.update([pull(1, PullPhase.DONE, 10), running])
    assert [line.split()[2] for line in text(table)[1:]] == ["done", "downloading"]
    table.update([running])
    now += 4
    assert [line.split()[2] for line in text(table)[1:]] == ["done", "downloading"]
    assert "1m39s" in text(table)[1]  # of an ended pull the time stands still
    assert "1m42s" in text(table)[2]
    now += 2
    assert [line.split()[2] for line in text(table)[1:]] == ["downloading"]
    table.update([pull(2, PullPhase.FAILED)])
    table.update([])
    now += 3600
    assert [line.split()[2] for line in text(table)[1:]] == ["failed"]  # what was taken off does not come back
    for number in range(3, 20):
        table.update([pull(number, PullPhase.DONE)])
    assert len(text(table)) == 6


def test_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods by name, each once; callers that do not say who they are, by number."""
    monkeypatch.setattr(progress, "time", SimpleNamespace(time=lambda: 100.0))
    table = LiveTable()
    named, unnamed = pull(1, PullPhase.QUEUED), pull(2, PullPhase.RESOLVING)
    named.waiters = [PullWaiter(pod=pod) for pod in ("shop/web-1", "shop/web-0", "shop/web-1", "")]
    unnamed.waiters = [PullWaiter(), PullWaiter()]
    table.update([named, unnamed])
    first, second = text(table)[1:]
    assert first.endswith("shop/web-0, shop/web-1")
    assert second.split()[-1] == "2"


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_one_line_a_pull_on_every_terminal(width: int) -> None:
    """Whatever its width: nothing wraps, both ends of a name can be read, and what is worth most is there."""
    now = 10**9 * 50
    long = "registry.example.com/team/with/a/rather/long/path/application:v1.2.3"
    rows = [
        Pull(
            id=str(number),
            reference=name,
            phase=phase,
            bytes_done=10**7,
            bytes_total=10**8,
            bytes_per_second=10**6,
            layers_done=1,
            layers_total=12,
            layers_reused=3,
            started=now,
            waiters=[PullWaiter(pod=f"shop/web\n-{one}") for one in range(9)],
        )
        for number, name in ((8, long), (9, "a/b"), (10, "b.example/x@sha256:" + "0" * 64))
        for phase in PullPhase
    ]
    shown = io.StringIO()
    Console(file=shown, width=width).print(progress.pulls_table(rows))
    lines = shown.getvalue().splitlines()
    assert len(lines) == len(rows) + 1
    assert max(map(len, lines)) <= width
    header = lines[0].split()
    assert header[:3] == ["ID", "IMAGE", "PHASE"]
    there = {40: 3, 60: 3, 80: 5, 120: 7, 200: 9}
    assert len(header) == there[width]
    first = lines[1].split()
    assert (first[0], first[2]) == ("8", "unspecified")
    head, dots, tail = first[1].partition("…")
    assert (long.startswith(head), long.endswith(tail), bool(dots)) == (True, True, width < 200)
    assert len(tail) >= 6 or not dots
    assert "waiting-for-store" in shown.getvalue()


@pytest.mark.parametrize("text", ["short", "x" * 40, "名前" * 20, ""])
def test_names_are_shortened_in_the_middle(text: str) -> None:
    """To the width and no more, in columns of a terminal, with what it began and ended with."""
    for width in range(3, 45):
        short = progress.shortened(text, width)
        assert cell_len(short) <= width
        head, dots, tail = short.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert bool(dots) == (cell_len(text) > width)
