"""A run as a picture, SVG: how far each target is kept, and what lists cost as stores grow."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import growth
from benchmarks.report import options_of
from benchmarks.targets import Verdict, targets
from parts.svg import svg_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.results import Results

_WIDTH = 960
_LABELS = 520
_ROW = 18
_TOP = 46
_GROWTH = 300
_MARGIN = 20
_COLOURS = {Verdict.MET: "#2e7d32", Verdict.INSIDE: "#b26a00", Verdict.MISSED: "#c62828"}
_SIDES = ("#1565c0", "#2e7d32", "#6a1b9a", "#c62828", "#555555")
_text = partial(svg_text, size=12)
_IMAGES = re.compile(r"ListImages, (\d+) images")


def svg(results: Results) -> str:
    """The picture of a run."""
    rows = list(_rows(results))
    height = _TOP + len(rows) * _ROW + _MARGIN
    lines = list(_growth(results, height))
    total = height + (_GROWTH if lines else 0)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{total}" viewBox="0 0 {_WIDTH} {total}" '
        'font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{_WIDTH}" height="{total}" fill="#ffffff"/>'
    return "\n".join([head, ground, *_measures(rows), *lines, "</svg>"]) + "\n"


def _rows(results: Results) -> Iterator[tuple[str, Verdict, tuple[float, float, float]]]:
    """Each target with its median and spread over its limit, below 1 if it is kept."""
    for target in targets(options_of(results)):
        found = target.measured(results)
        if found is not None:
            ends = [value / target.limit for value in found]
            # Where more is better the limit is divided, so that 1 and less is good everywhere.
            over = [1 / max(one, 1e-6) for one in ends] if target.at_least else [max(one, 1e-6) for one in ends]
            yield target.text, target.verdict(results), (over[0], min(over), max(over))


def _measures(rows: Sequence[tuple[str, Verdict, tuple[float, float, float]]]) -> Iterator[str]:
    low, high = 0.1, 4.0

    def across(value: float) -> float:
        share = math.log(min(max(value, low), high) / low) / math.log(high / low)
        return _LABELS + share * (_WIDTH - _LABELS - _MARGIN)

    bottom = _TOP + len(rows) * _ROW
    yield _text(_MARGIN, 18, "measured over target, kept left of 1; a dot is the median, a line the spread", bold=True)
    for mark in (0.1, 0.25, 0.5, 1, 2, 4):
        colour = "#000000" if mark == 1 else "#dddddd"
        place = across(mark)
        yield f'<line x1="{place:.1f}" y1="{_TOP - 6}" x2="{place:.1f}" y2="{bottom}" stroke="{colour}"/>'
        yield _text(place, _TOP - 10, f"{mark:g}", anchor="middle")
    for number, (text, verdict, (middle, left, right)) in enumerate(rows):
        height = _TOP + number * _ROW + _ROW // 2
        colour = _COLOURS[verdict]
        yield _text(_LABELS - 10, height + 4, text, anchor="end", size=11)
        ends = f'x1="{across(left):.1f}" y1="{height}" x2="{across(right):.1f}" y2="{height}"'
        yield f'<line {ends} stroke="{colour}" stroke-width="2"/>'
        yield f'<circle cx="{across(middle):.1f}" cy="{height}" r="4" fill="{colour}"/>'


def _growth(results: Results, top: int) -> Iterator[str]:
    points = _points(results)
    counts = sorted({count for line in points.values() for count, _ in line})
    times = [seconds for line in points.values() for _, seconds in line]
    if len(counts) < 2:
        return
    left, right, upper, lower = 80, _WIDTH - 200, top + 40, top + _GROWTH - 40
    few, most = math.log(counts[0]), math.log(counts[-1])
    fast, slow = math.log(min(times)), math.log(max(times))

    def place(count: int, time: float) -> tuple[float, float]:
        across = (math.log(count) - few) / (most - few)
        up = (math.log(time) - fast) / max(slow - fast, 1e-9)
        return left + across * (right - left), lower - up * (lower - upper)

    yield _text(_MARGIN, top + 18, "ListImages: median in ms over the number of images, both logarithmic", bold=True)
    yield f'<path d="M{left},{upper} V{lower} H{right}" fill="none" stroke="#000000"/>'
    for count in counts:
        yield _text(place(count, min(times))[0], lower + 18, f"{count}", anchor="middle")
    coloured = dict(zip(points, _SIDES, strict=False))
    for side, colour in coloured.items():
        line = [place(*point) for point in sorted(points[side])]
        path = " ".join(f"{across:.1f},{height:.1f}" for across, height in line)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for across, height in line:
            yield f'<circle cx="{across:.1f}" cy="{height:.1f}" r="3" fill="{colour}"/>'
    for count in counts:
        there = {side: time for side in coloured for at, time in points[side] if at == count}
        heights = _apart({side: place(count, time)[1] - 6 for side, time in there.items()}, 11, lower - 4)
        for side, height in heights.items():
            across = place(count, there[side])[0] + 6
            yield _text(across, height, f"{there[side]:.2f}", size=10, colour=coloured[side])
    ends = {side: place(*max(points[side]))[1] + 4 for side in coloured}
    for side, height in _apart(ends, 15, lower).items():
        yield _text(right + 40, height, side, colour=coloured[side])


def _points(results: Results) -> dict[str, list[tuple[int, float]]]:
    """The lists' medians in seconds by side, each with its number of images."""
    points: dict[str, list[tuple[int, float]]] = {}
    for key, series in results.series.items():
        if key.part == "calls" and (matched := _IMAGES.fullmatch(key.what)):
            points.setdefault(key.side, []).append((int(matched[1]), series.median))
        if key.part == growth.PART and key.what == "ListImages":
            points.setdefault("records written", []).append((int(key.side.split()[0]), series.median))
    return points


def _apart(heights: Mapping[str, float], distance: float, lowest: float) -> dict[str, float]:
    """Moves labels up, the lowest first, until none is in another's way."""
    found: dict[str, float] = {}
    free = lowest
    for name, height in sorted(heights.items(), key=lambda one: -one[1]):
        found[name] = min(height, free)
        free = found[name] - distance
    return found
