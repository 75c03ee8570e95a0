#!/usr/bin/env python3
# ruff: noqa: E402 - a script of its own, that finds the tests' parts first
"""Makes `dashboard.svg`: the panels of the shipped dashboard, by its own queries, on what a real run measured.

A criimage on each backend is used by several clients while everything else is restarted, as by `make soak`, and a
Prometheus looks at them; at the end it is asked what Grafana would ask it. Needs root, and what `make soak` needs:

    python docs/pictures/dashboard.py [SECONDS]
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import re
import sys
import time
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from criimage.shipping.dashboard import PANELS, Panel
from parts.prometheus import prometheus
from soak.node import BACKENDS
from soak.run import soaked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from parts.prometheus import Prometheus, Series
    from soak.node import Node

SECONDS = 420.0
LOOK_SECONDS = 2.0
RATE = "20s"
"""What Grafana would make of `$__rate_interval` here is four looks; some more shows lines instead of noise."""

_COLUMNS, _WIDTH, _HEIGHT, _LEFT, _HEAD, _LINES = 3, 340, 210, 60, 30, 5
_COLOURS = ("#1565c0", "#2e7d32", "#c62828", "#6a1b9a", "#b26a00", "#00838f", "#ad1457", "#555555")

Answers = list[tuple[Panel, list[tuple[str, "Series"]]]]


@contextlib.contextmanager
def watched(answers: Answers, node: Node) -> Iterator[None]:
    """Looks at the servers while they run, and asks at the end."""
    targets = {f"node-{server.backend}": server.metrics for server in node.servers}
    with prometheus(targets, seconds=LOOK_SECONDS) as watcher:
        begin = time.time()
        yield
        answers += asked(watcher, begin, time.time())


def asked(watcher: Prometheus, begin: float, end: float) -> Answers:
    """What each panel shows: its lines, with their legends."""
    found: Answers = []
    for panel in PANELS:
        lines: list[tuple[str, Series]] = []
        for query, legend in panel.queries:
            text = query.replace("$__rate_interval", RATE).replace("$instance", ".*")
            shown = watcher.range(text, begin, end, max(1.0, (end - begin) / 160))
            lines += [(named(legend, series.labels), series) for series in shown]
        found.append((panel, lines))
    return found


def named(legend: str, labels: dict[str, str]) -> str:
    """A legend with its labels, as Grafana writes it."""
    return re.sub(r"\{\{ ?(\w+) ?\}\}", lambda match: labels.get(match[1], ""), legend)


def drawn(answers: Answers) -> str:
    """The picture."""
    points = [at for _, lines in answers for _, series in lines for at, _ in series.points]
    begin, end = min(points), max(points)
    rows = math.ceil(len(answers) / _COLUMNS)
    width, height = _COLUMNS * _WIDTH, rows * _HEIGHT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="10">'
    )
    parts = [head, f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    for number, (panel, lines) in enumerate(answers):
        row, column = divmod(number, _COLUMNS)
        parts += _panel(panel, lines, column * _WIDTH, row * _HEIGHT, begin, end)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    panel: Panel, lines: Sequence[tuple[str, Series]], left: int, top: int, begin: float, end: float
) -> Iterator[str]:
    values = [value for _, series in lines for _, value in series.points if math.isfinite(value)]
    high = max(values, default=1.0) * 1.1 or 1.0
    x0, x1, y0, y1 = left + _LEFT, left + _WIDTH - 12, top + _HEAD, top + _HEIGHT - 16 - 12 * _LINES

    def across(at: float) -> float:
        return x0 + (at - begin) / max(end - begin, 1e-9) * (x1 - x0)

    yield f'<text x="{left + 8}" y="{top + 18}" font-weight="bold">{escape(panel.title)}</text>'
    yield f'<path d="M{x0},{y0} V{y1} H{x1}" fill="none" stroke="#999999"/>'
    for value in (0.0, high):
        height = y1 - value / high * (y1 - y0)
        place = f'x="{x0 - 4}" y="{height + 4:.0f}" text-anchor="end"'
        yield f'<text {place} fill="#555555">{_shown(value, panel.unit)}</text>'
    if not lines:
        place = f'x="{(x0 + x1) / 2}" y="{(y0 + y1) / 2}" text-anchor="middle"'
        yield f'<text {place} fill="#555555">nothing, as it should be</text>'
    # The largest are drawn and named; a dashboard would scroll.
    ordered = sorted(lines, key=lambda line: -max((v for _, v in line[1].points if math.isfinite(v)), default=0))
    for number, (legend, series) in enumerate(ordered[: len(_COLOURS)]):
        colour = _COLOURS[number]
        for stretch in _stretches(series.points):
            path = " ".join(f"{across(at):.1f},{y1 - value / high * (y1 - y0):.1f}" for at, value in stretch)
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
        if number < 2 * _LINES:
            column, line = divmod(number, _LINES)
            place = f'x="{left + 10 + column * _WIDTH // 2}" y="{y1 + 16 + 12 * line}"'
            yield f'<text {place} fill="{colour}">{escape(_cut(legend, 26 if len(ordered) > _LINES else 50))}</text>'


def _stretches(points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line without the holes where there was nothing to measure."""
    step = min((b - a for (a, _), (b, _) in itertools.pairwise(points)), default=1.0)
    stretch: list[tuple[float, float]] = []
    for at, value in points:
        if stretch and (at - stretch[-1][0] > 1.5 * step or not math.isfinite(value)):
            yield stretch
            stretch = []
        if math.isfinite(value):
            stretch.append((at, value))
    if stretch:
        yield stretch


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _shown(value: float, unit: str) -> str:
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if unit == "Bps" and value:
        return f"{value / 1000:.3g} kB/s"
    return f"{value:.3g}{' s' if unit == 's' and value else ''}"


def main() -> None:
    """Run, ask, draw."""
    seconds = float(sys.argv[1]) if sys.argv[1:] else SECONDS
    answers: Answers = []
    asyncio.run(soaked(seconds, BACKENDS, partial(print, flush=True), watched=partial(watched, answers)))
    (HERE / "dashboard.svg").write_text(drawn(answers))


if __name__ == "__main__":
    main()
