"""A run as Markdown: the targets first, then everything that was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.calls import BARE
from benchmarks.node import PEER
from benchmarks.pulls import TOOL
from benchmarks.results import Key, Results
from benchmarks.run import Options
from benchmarks.targets import targets

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN, END = "<!-- benchmark: begin, written by `make bench` -->", "<!-- benchmark: end -->"

_TITLES = {
    "calls": "Calls, one in flight",
    "throughput": "Calls, 16 in flight",
    "processor": "What a call takes of a processor",
    "relay": "Relayed calls",
    "growth": "Growth of a store of containers-storage",
    "pulls": "Pulls, one in flight",
    "bursts": "Pulls, 16 in flight: the time of all over their number",
    "start": "From the start to the first correct list",
    "memory": "Resident memory",
}
_FIRST = (TOOL, PEER, "direct", BARE)
_FINE = 10


def options_of(results: Results) -> Options:
    """The options that a run was made with."""
    chosen = dict(results.about["options"])
    return Options(**{**chosen, **{name: tuple(chosen[name]) for name in ("parts", "sizes", "written")}})


def markdown(results: Results, picture: str = "") -> str:
    """The report of a run.

    Args:
        results: of it.
        picture: where its plot is, as a link in the text; none if empty.
    """
    options = options_of(results)
    lines = [*_about(results, options), "", *_targets(results, options)]
    if picture:
        lines += ["", f"![Each target's measured value over its limit, and lists over the number of images]({picture})"]
    for part, title in _TITLES.items():
        if part in options.parts:
            lines += ["", f"### {title}", "", *_part(results, part)]
    for name, reason in results.missing.items():
        lines += ["", f"Not measured: {name}: {reason}."]
    return "\n".join(lines) + "\n"


def placed(page: str, report: str) -> str:
    """A page with a report in place of its last one.

    Raises:
        ValueError: the page has no place for one.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{report}\n{END}{after}"


def _about(results: Results, options: Options) -> Iterator[str]:
    about = results.about
    load = ", ".join(f"{one:.1f}" for one in (about["load"]["before"][0], about["load"]["after"][0]))
    yield f"{about['date']}, criimage {about['criimage']}, {about['machine']}. Beside it: {about['peers']}."
    yield f"Client: {about['client']}. Medians of {options.rounds} rounds, all sides in turn in each;"
    yield "the spread is the middle half of the rounds, what is in brackets a ratio to the row's first column."
    if fills := about.get("filled"):
        yield (
            "The stores were filled by real pulls, in seconds: "
            + "; ".join(
                f"to {size} images " + ", ".join(f"{name} {one:.0f}" for name, one in each.items())
                for size, each in fills.items()
            )
            + "."
        )
    if about["nice"]:
        yield f"All that takes part had nice {about['nice']} over the machine's other work."
    yield f"Load average (1 minute) before and after: {load}. The run took {about['seconds']:.0f} s."


def _targets(results: Results, options: Options) -> Iterator[str]:
    yield "| what | target | measured | spread | |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for target in targets(options):
        found = target.measured(results)
        shown = "| |" if found is None else f"{found.median:.2f} | {found.low:.2f} to {found.high:.2f} |"
        yield f"| {target.text} | {target.limit_text(results)} | {shown} {target.verdict(results).value} |"


def _part(results: Results, part: str) -> Iterator[str]:
    # What others are compared with comes first.
    sides = sorted(results.sides(part), key=lambda side: _FIRST.index(side) if side in _FIRST else len(_FIRST))
    kinds = results.kinds(part)
    yield f"| | {' | '.join(sides)} |"
    yield f"| --- |{' ---: |' * len(sides)}"
    for what in kinds:
        there = [side for side in sides if Key(part, what, side) in results.series]
        cells = [_cell(results, part, what, side, there[0]) if side in there else "" for side in sides]
        yield f"| {what}, {results.series[Key(part, what, there[0])].unit} | {' | '.join(cells)} |"


def _cell(results: Results, part: str, what: str, side: str, base: str) -> str:
    """A median, and in brackets what it is to the row's first one."""
    median = results.series[Key(part, what, side)].median
    text = f"{median:.2f}" if median < _FINE else f"{median:.1f}" if median < _FINE**2 else f"{median:.0f}"
    if side == base or 0.0 in results.series[Key(part, what, base)].values:
        return text
    ratio = results.ratio(Key(part, what, side), Key(part, what, base))
    return text if ratio is None else f"{text} ({ratio.median:.2f})"
