"""Shows pulls as they go: a live table with bars on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from criimage.cli.output import printable, readable_size
from criimage.cri.criimage.v1 import Pull, PullPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import ConsoleOptions, RenderableType, RenderResult

__all__ = ["NO_PULLS", "Display", "LiveTable", "display", "is_over", "pulls_table", "shortened"]

NO_PULLS = "No pulls are running."

_BAR_WIDTH = 12
_GAP = 2
_NAME_WIDTH = 24
"""So much of a name is worth more than other columns, but not the phase and the ID."""
_SHORT_NAME_WIDTH = 16
_WAITING_WIDTH = 40
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
def display(stream: TextIO, *, nothing: str = "") -> Iterator[Display]:
    """Show pulls on `stream` until the block is left: what is right for a terminal, or for a file.

    Args:
        stream: where to.
        nothing: shown on a terminal while no pull runs.
    """
    if not stream.isatty():
        yield _Lines(stream)
        return
    shown = LiveTable(nothing)
    with Live(console=Console(file=stream), get_renderable=shown.table, refresh_per_second=8):
        yield shown


class LiveTable:
    """A table that goes on counting seconds between updates, and shows for some of them what has ended.

    The last ones that ended stay on the screen when nothing runs after them; one that was taken off does not come back.

    Args:
        nothing: shown while there is no pull, from the first update on: before, nothing is known.
    """

    def __init__(self, nothing: str = "") -> None:
        self._nothing = nothing
        self._known = False
        self._pulls: Sequence[Pull] = ()
        self._ended: Sequence[tuple[float, Pull]] = ()
        # rich draws from a thread of its own.
        self._lock = threading.Lock()

    def update(self, pulls: Sequence[Pull]) -> None:
        """Show these pulls from now on."""
        now = time.time()
        with self._lock:
            self._drop_ended(now)
            self._ended = [*self._ended, *((now, pull) for pull in pulls if pull.phase in _OVER)][-_ENDED_ROWS:]
            self._pulls = [pull for pull in pulls if pull.phase not in _OVER]
            self._known = True

    def table(self) -> RenderableType:
        """Return what is to be shown now."""
        now = time.time()
        with self._lock:
            self._drop_ended(now)
            rows = [*((pull, when) for when, pull in self._ended), *((pull, now) for pull in self._pulls)]
        if rows:
            return _Table(sorted(rows, key=lambda row: row[0].started))
        return Text(self._nothing, style="dim") if self._known and self._nothing else Group()

    def _drop_ended(self, now: float) -> None:
        if self._pulls:
            self._ended = [(when, pull) for when, pull in self._ended if now - when < _ENDED_SECONDS]


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
    return _Table([(pull, now) for pull in pulls]) if pulls else Text(NO_PULLS, style="dim")


@dataclass(frozen=True, slots=True)
class _Column:
    """A column and what it says of a pull at a moment."""

    name: str
    text: Callable[[Pull, float], str]


_COLUMNS = (
    _Column("ID", lambda pull, _: pull.id),
    _Column("IMAGE", lambda pull, _: pull.reference),
    _Column("PHASE", lambda pull, _: phase_name(pull)),
    _Column("PROGRESS", lambda _, __: " " * _BAR_WIDTH),
    _Column("BYTES", lambda pull, _: _amount(pull) if pull.bytes_done else ""),
    _Column("RATE", lambda pull, _: _rate(pull)),
    _Column("LAYERS", lambda pull, _: _layers(pull)),
    _Column("TIME", _age),
    _Column("WAITING", lambda pull, _: _waiting(pull)),
)
_DROPPED = ("LAYERS", "WAITING", "TIME", "RATE", "BYTES", "PROGRESS", "ID")
"""What a narrow terminal does without, the least worth first."""


class _Table:
    """One line a pull, each as it was at its moment, on a terminal of any width.

    Where there is no room for all, columns are dropped by their worth, and names are shortened in the middle: what
    tells two of them apart is at their ends.
    """

    def __init__(self, rows: Sequence[tuple[Pull, float]]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = {column.name: [printable(column.text(pull, now)) for pull, now in self._rows] for column in _COLUMNS}
        widths = {name: max(cell_len(text) for text in (name, *texts)) for name, texts in cells.items()}
        widths["WAITING"] = min(widths["WAITING"], _WAITING_WIDTH)
        self._fit(widths, options.max_width)
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        for name, width in widths.items():
            table.add_column(name, width=width, no_wrap=True)
        for row, (pull, _) in enumerate(self._rows):
            table.add_row(*(self._cell(name, cells[name][row], width, pull) for name, width in widths.items()))
        yield table

    @staticmethod
    def _fit(widths: dict[str, int], room: int) -> None:
        """Drop columns and narrow the name until a line has room."""
        for name in _DROPPED:
            least = min(widths["IMAGE"], _SHORT_NAME_WIDTH if name == "ID" else _NAME_WIDTH)
            if sum(widths.values()) - widths["IMAGE"] + least + _GAP * (len(widths) - 1) <= room:
                break
            del widths[name]
        others = sum(widths.values()) - widths["IMAGE"] + _GAP * (len(widths) - 1)
        widths["IMAGE"] = max(1, min(widths["IMAGE"], room - others))

    @staticmethod
    def _cell(name: str, text: str, width: int, pull: Pull) -> RenderableType:
        if name == "PROGRESS":
            return _bar(pull, phase_name(pull))
        # As text, not as rich's markup: a registry may be called [fe80::1].
        return Text(shortened(text, width), style=_COLORS.get(text, "cyan") if name == "PHASE" else "")


def shortened(text: str, width: int) -> str:
    """Return text of no more than `width` columns, what is too much left out of its middle."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    head = width - 1 - tail
    return f"{set_cell_size(text, head).rstrip()}\u2026{_end_of(text, tail)}"


def _end_of(text: str, width: int) -> str:
    start = len(text)
    while start and cell_len(text[start - 1 :]) <= width:
        start -= 1
    return text[start:]


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
