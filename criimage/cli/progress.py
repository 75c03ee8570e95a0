"""Shows pulls as they go: a live table with bars on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from criimage.cli.output import readable_size
from criimage.cri.criimage.v1 import Pull, PullPhase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

__all__ = ["Display", "display", "is_over", "pulls_table"]

_BAR_WIDTH = 12
_LINE_SECONDS = 5.0
_ENDED_SECONDS = 5.0
_ENDED_ROWS = 5
_OVER = frozenset({PullPhase.DONE, PullPhase.FAILED})
_COLORS = {"done": "green", "failed": "red", "queued": "yellow"}


class Display(Protocol):
    """Something that shows pulls."""

    def update(self, pulls: Sequence[Pull]) -> None:
        """Show these pulls from now on."""


@contextmanager
def display(stream: TextIO) -> Iterator[Display]:
    """Show pulls on `stream` until the block is left: what is right for a terminal, or for a file."""
    if not stream.isatty():
        yield _Lines(stream)
        return
    shown = _LiveTable()
    with Live(console=Console(file=stream), get_renderable=shown.table, refresh_per_second=8):
        yield shown


class _LiveTable:
    """A table that goes on counting seconds between updates, and shows for some of them what has ended."""

    def __init__(self) -> None:
        self._pulls: Sequence[Pull] = ()
        self._ended: list[tuple[float, Pull]] = []

    def update(self, pulls: Sequence[Pull]) -> None:
        now = time.time()
        self._ended = [*self._ended, *((now, pull) for pull in pulls if pull.phase in _OVER)][-_ENDED_ROWS:]
        self._pulls = [pull for pull in pulls if pull.phase not in _OVER]

    def table(self) -> RenderableType:
        """Return what is to be shown now; called from rich's own thread."""
        pulls, now = self._pulls, time.time()
        # The last ones stay on the screen when nothing comes after them.
        ended = [(when, pull) for when, pull in self._ended if not pulls or now - when < _ENDED_SECONDS]
        rows = [*((pull, when) for when, pull in ended), *((pull, now) for pull in pulls)]
        return _table(sorted(rows, key=lambda row: row[0].started))


class _Lines:
    """A line when a pull changes its phase, and every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said: dict[str, tuple[PullPhase, float]] = {}

    def update(self, pulls: Sequence[Pull]) -> None:
        now = time.monotonic()
        for pull in pulls:
            phase, since = self._said.get(pull.id, (None, 0.0))
            if pull.phase != phase or now - since >= _LINE_SECONDS:
                self._said[pull.id] = (pull.phase, now)
                self._stream.write(_line(pull) + "\n")
        self._stream.flush()


def is_over(pull: Pull) -> bool:
    """Tell whether nothing more will come of a pull."""
    return pull.phase in _OVER


def phase_name(pull: Pull) -> str:
    """Return the phase as people read it."""
    return (PullPhase(pull.phase).name or "unknown").lower().replace("_", "-")


def _amount(pull: Pull) -> str:
    done = readable_size(pull.bytes_done)
    return f"{done} / {readable_size(pull.bytes_total)}" if pull.bytes_total else done


def _layers(pull: Pull) -> str:
    text = f"{pull.layers_done}/{pull.layers_total}" if pull.layers_total else ""
    return f"{text} +{pull.layers_reused} here".strip() if pull.layers_reused else text


def _rate(pull: Pull) -> str:
    return f"{readable_size(pull.bytes_per_second)}/s" if pull.bytes_per_second else ""


def _age(pull: Pull, now: float) -> str:
    seconds = max(0, round(now - pull.started / 1e9))
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


def _line(pull: Pull) -> str:
    parts = [pull.reference, phase_name(pull), _amount(pull) if pull.bytes_done else "", _layers(pull), _rate(pull)]
    return "  ".join(part for part in parts if part)


def pulls_table(pulls: Sequence[Pull]) -> RenderableType:
    """Return a table with a row for each pull."""
    now = time.time()
    return _table([(pull, now) for pull in pulls])


def _table(rows: Sequence[tuple[Pull, float]]) -> RenderableType:
    """Return a table with a row for each pull as it was at its moment."""
    if not rows:
        return Text("No pulls are running.", style="dim")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("ID", "IMAGE", "PHASE", "PROGRESS", "BYTES", "RATE", "LAYERS", "TIME", "WAITING"):
        # If only the name could wrap, a terminal of 80 columns would leave nothing of it.
        table.add_column(column, no_wrap=column in {"ID", "PHASE", "TIME"}, overflow="fold")
    for pull, now in rows:
        phase = phase_name(pull)
        table.add_row(
            pull.id,
            # As text, not as rich's markup: a registry may be called [fe80::1].
            Text(pull.reference),
            Text(phase, style=_COLORS.get(phase, "cyan")),
            _bar(pull, phase),
            _amount(pull) if pull.bytes_done else "",
            _rate(pull),
            _layers(pull),
            _age(pull, now),
            Text(_waiting(pull)),
        )
    return table


def _waiting(pull: Pull) -> str:
    return ", ".join(sorted({waiter.pod for waiter in pull.waiters if waiter.pod})) or str(len(pull.waiters) or "")


def _bar(pull: Pull, phase: str) -> RenderableType:
    if phase == "done":
        return ProgressBar(total=1, completed=1, width=_BAR_WIDTH)
    if phase in {"queued", "failed"} or not (pull.bytes_total or pull.bytes_done):
        return Text("")
    if not pull.bytes_total:
        return ProgressBar(total=None, width=_BAR_WIDTH, pulse=True)
    return ProgressBar(total=pull.bytes_total, completed=min(pull.bytes_done, pull.bytes_total), width=_BAR_WIDTH)
