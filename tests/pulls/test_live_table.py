"""The table of `criimage pulls --watch`, without a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING

from rich.console import Console

from criimage.cli import progress
from criimage.cli.progress import _LiveTable
from criimage.cri.criimage.v1 import Pull, PullPhase, PullWaiter

if TYPE_CHECKING:
    import pytest


def pull(number: int, phase: int, done: int = 0) -> Pull:
    name, second = f"registry.example.com/app{number}:1", 10**9
    return Pull(id=str(number), reference=name, phase=PullPhase(phase), started=number * second, bytes_done=done)


def text(table: _LiveTable) -> list[str]:
    shown = io.StringIO()
    Console(file=shown, width=160).print(table.table())
    return shown.getvalue().splitlines()


def test_what_has_ended_stays_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of an ended pull goes after some seconds if others run, stays as the last thing seen if none does."""
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(time=lambda: now))
    table = _LiveTable()
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
    assert [line.split()[2] for line in text(table)[1:]] == ["done", "failed"]
    for number in range(3, 20):
        table.update([pull(number, PullPhase.DONE)])
    assert len(text(table)) == 6


def test_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods by name, each once; callers that do not say who they are, by number."""
    monkeypatch.setattr(progress, "time", SimpleNamespace(time=lambda: 100.0))
    table = _LiveTable()
    named, unnamed = pull(1, PullPhase.QUEUED), pull(2, PullPhase.RESOLVING)
    named.waiters = [PullWaiter(pod=pod) for pod in ("shop/web-1", "shop/web-0", "shop/web-1", "")]
    unnamed.waiters = [PullWaiter(), PullWaiter()]
    table.update([named, unnamed])
    first, second = text(table)[1:]
    assert first.endswith("shop/web-0, shop/web-1  ")
    assert second.split()[-1] == "2"
