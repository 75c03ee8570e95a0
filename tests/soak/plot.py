"""The run as a picture, SVG: memory, what is held, and latency over time, with a mark at each restart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from parts.svg import svg_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from soak.samples import Sample

__all__ = ["svg"]

_WIDTH, _PANEL, _GAP = 960, 110, 34
_LEFT, _RIGHT, _TOP = 64, 150, 62
_COLOURS = {
    "memory": "#1565c0",
    "descriptors": "#2e7d32",
    "threads": "#6a1b9a",
    "tasks": "#b26a00",
    "p50": "#1565c0",
    "p99": "#c62828",
    "bare50": "#999999",
}
_PANELS = (
    ("MiB", ("memory",), False),
    ("held", ("descriptors", "threads", "tasks"), False),
    ("ms", ("p50", "p99", "bare50"), True),
)
_NAMES = {"bare50": "p50 of a bare server"}
_MARKS = {"registry": "#00838f", "engine": "#ad1457", "runtime": "#ad1457", "criimage": "#000000"}


def svg(samples: dict[str, Sequence[Sample]], restarts: Sequence[tuple[float, str]], seconds: float) -> str:
    """Return the picture.

    Args:
        samples: of each server, by its backend.
        restarts: when each was, and of what; a backend's name for its server.
        seconds: how long the run was.
    """
    height = _TOP + len(samples) * len(_PANELS) * (_PANEL + _GAP)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">'
    )
    lines = [head, f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>', *_legend(restarts, samples, seconds)]
    top = _TOP
    for backend, taken in samples.items():
        for title, measures, logarithmic in _PANELS:
            lines += _panel(backend, title, measures, taken, restarts, seconds, top, logarithmic=logarithmic)
            top += _PANEL + _GAP
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend(
    restarts: Sequence[tuple[float, str]], samples: dict[str, Sequence[Sample]], seconds: float
) -> Iterator[str]:
    title = f"{seconds / 60:.0f} minutes of mixed traffic; a line down is a restart"
    yield svg_text(_LEFT, 18, title, size=13, bold=True)
    kinds = [kind for kind in _MARKS if any(_kind(part, samples) == kind for _, part in restarts)]
    for number, kind in enumerate(kinds):
        across = _LEFT + 110 * number
        yield f'<line x1="{across}" y1="30" x2="{across}" y2="44" stroke="{_MARKS[kind]}" stroke-dasharray="3 2"/>'
        yield svg_text(across + 6, 41, kind, colour=_MARKS[kind])


def _kind(part: str, samples: dict[str, Sequence[Sample]]) -> str:
    return "criimage" if part in samples else part


def _panel(
    backend: str,
    title: str,
    measures: tuple[str, ...],
    taken: Sequence[Sample],
    restarts: Sequence[tuple[float, str]],
    seconds: float,
    top: int,
    *,
    logarithmic: bool,
) -> Iterator[str]:
    values = [float(getattr(one, measure)) for one in taken for measure in measures]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low, high = (max(low, 0.01), max(high, 0.1)) if logarithmic else (0.0, high * 1.1 or 1.0)
    scale: Callable[[float], float] = math.log if logarithmic else float

    def across(at: float) -> float:
        return _LEFT + at / seconds * (_WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        share = (scale(max(value, low)) - scale(low)) / ((scale(high) - scale(low)) or 1.0)
        return top + _PANEL - share * _PANEL

    right, bottom = _WIDTH - _RIGHT, top + _PANEL
    yield svg_text(_LEFT, top - 6, f"{backend}: {title}{', logarithmic' if logarithmic else ''}", bold=True)
    yield f'<path d="M{_LEFT},{top} V{bottom} H{right}" fill="none" stroke="#000000"/>'
    for value in (low, high):
        yield svg_text(_LEFT - 6, up(value) + 4, f"{value:,.0f}" if value >= 100 else f"{value:.2g}", anchor="end")
    for minutes in range(0, int(seconds // 60) + 1, max(1, int(seconds // 600))):
        yield svg_text(across(minutes * 60), bottom + 14, f"{minutes} min", anchor="middle", size=10, colour="#555555")
    others = {one for _, one in restarts} - {"registry", "engine", "runtime"} - {backend}
    for at, part in restarts:
        wanted = {"registry", backend, {"docker": "engine", "cri": "runtime"}.get(backend, "")}
        if part in wanted and part not in others:
            colour = _MARKS["criimage" if part == backend else part]
            place = f'x1="{across(at):.1f}" y1="{top}" x2="{across(at):.1f}" y2="{bottom}"'
            yield f'<line {place} stroke="{colour}" stroke-dasharray="3 2"/>'
    labels = sorted(measures, key=lambda measure: -float(getattr(taken[-1], measure)) if taken else 0.0)
    for number, measure in enumerate(labels):
        for life in _lives(taken):
            points = " ".join(f"{across(one.at):.1f},{up(float(getattr(one, measure))):.1f}" for one in life)
            yield f'<polyline points="{points}" fill="none" stroke="{_COLOURS[measure]}" stroke-width="1.5"/>'
        last = f" {float(getattr(taken[-1], measure)):.3g}" if taken else ""
        yield svg_text(
            right + 8, top + 14 + 16 * number, f"{_NAMES.get(measure, measure)}{last}", colour=_COLOURS[measure]
        )


def _lives(taken: Sequence[Sample]) -> Iterator[list[Sample]]:
    life: list[Sample] = []
    for one in taken:
        if life and one.life != life[-1].life:
            yield life
            life = []
        life.append(one)
    if life:
        yield life
