"""The benchmark itself: that it measures what it says, and that its verdicts are those of its numbers."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmark
from benchmarks import bursts
from benchmarks.node import CRI, DOCKER, PEER, STORAGE
from benchmarks.plot import svg
from benchmarks.pulls import OURS, TOOL, new, removal
from benchmarks.report import BEGIN, END, markdown, placed
from benchmarks.results import Key, Results, Spread
from benchmarks.run import Options
from benchmarks.targets import Target, Verdict, targets
from parts.missing import need_root

_OURS, _BASE = Key("calls", "a call", "ours"), Key("calls", "a call", "base")


def _results(ours: list[float], base: list[float]) -> Results:
    made = Results()
    for key, values in ((_OURS, ours), (_BASE, base)):
        for value in values:
            made.add(key, "ms", value)
    return made


@pytest.mark.parametrize(
    ("ours", "limit", "at_least", "verdict"),
    [
        ([2, 2, 2, 9, 9], 1.0, False, Verdict.MET),
        ([1, 2, 3, 4, 4], 1.2, False, Verdict.INSIDE),
        ([3, 3, 3, 3, 3], 1.2, False, Verdict.MISSED),
        ([2, 2, 2, 1, 1], 1.0, True, Verdict.MET),
        ([1, 1, 1, 2, 2], 1.0, True, Verdict.INSIDE),
        ([1, 1, 1, 1, 2], 1.0, True, Verdict.MISSED),
    ],
)
def test_a_verdict_is_that_of_median_and_spread(
    ours: list[float], limit: float, at_least: bool, verdict: Verdict
) -> None:
    """Met by the median; missed inside the spread if only the better quarter of the rounds keeps it."""
    results = _results(ours, [2, 2, 2, 2, 2])
    target = Target("", _OURS, (_BASE,), limit, at_least=at_least)
    assert target.verdict(results) is verdict


def test_ratios_are_those_of_each_round() -> None:
    """A round in which the machine was slow counts as a ratio, and not as two times that meet others' times."""
    results = _results([10, 100, 1000], [5, 50, 500])
    assert results.ratio(_OURS, _BASE) == Spread(2.0, 2.0, 2.0)
    assert results.ratio(_OURS, _BASE, less=10.0) == pytest.approx((1.8, 0.9, 1.89))
    assert results.ratio(_OURS, _BASE, _BASE) == Spread(1.0, 1.0, 1.0)
    assert results.ratio(_OURS, Key("calls", "a call", "nobody")) is None


def test_what_was_not_measured_is_told() -> None:
    """A target without numbers is neither met nor missed, and keeps its row."""
    assert Target("", _OURS, (_BASE,), 1.0).verdict(Results()) is Verdict.UNKNOWN


def test_a_report_takes_the_place_of_the_last_one() -> None:
    """What people wrote around it stays, and a page without a place is refused."""
    page = f"# A\n{BEGIN}\nold\n{END}\n## B\n"
    assert placed(page, "new") == f"# A\n{BEGIN}\n\nnew\n{END}\n## B\n"
    assert placed(placed(page, "other"), "new") == placed(page, "new")
    with pytest.raises(ValueError, match="has no lines"):
        placed("# A\n", "new")


def test_the_page_has_a_place_for_it() -> None:
    """`--write-docs` finds it."""
    assert placed(benchmark._PAGE.read_text(), "")


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started for a part that there is not."""
    with pytest.raises(SystemExit):
        benchmark.main(["--only", "pulls,everything"])
    assert "no such part: everything" in capsys.readouterr().err


def _bursts(backend: str) -> list[str]:
    return [bursts.unchanged(backend), bursts.new(2, backend), bursts.removal(backend)]


@pytest.mark.engine
@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not weigh sessions")
def test_a_niceness_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session that a nice benchmark was started in is as before: nothing of a run is left."""
    need_root()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        place = Path(f"/proc/{other.pid}/autogroup")
        before = place.read_text()
        monkeypatch.setattr(os, "nice", lambda _: 3)
        with benchmark._preferred([other.pid]):
            assert place.read_text().endswith("nice 3\n")
        after = place.read_text()
        other.kill()
    assert after == before


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_every_part_measures_every_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One short round of everything: each target has a number, and so has each call (issue 12, 3).

    Pulls and removals too, one by one and at once, on each backend. The numbers survive their file, and the picture is
    XML with a dot for each target.
    """
    options = Options(
        tuple(benchmark.PARTS),
        sizes=(2, 3),
        rounds=1,
        seconds=0.01,
        pulls=1,
        burst=2,
        large=1,
        load=0.03,
        calls=50,
        written=(2, 3),
    )
    results = benchmark.measure(options)
    assert not results.missing
    unknown = [target.text for target in targets(options) if target.verdict(results) is Verdict.UNKNOWN]
    assert not unknown
    assert {what for what in results.kinds("pulls") if what.startswith("removal")} == {
        removal(new(kind, backend)) for kind in ("tiny", "1 x 1 MiB") for backend in (STORAGE, CRI, DOCKER)
    }
    assert {key[1:] for key in results.series if key.part == bursts.PART} == {
        *((what, OURS) for backend in (STORAGE, CRI, DOCKER) for what in _bursts(backend)),
        *((what, TOOL) for backend in (STORAGE, CRI, DOCKER) for what in _bursts(backend)[:2]),
        (bursts.removal(CRI), TOOL),
        (bursts.unchanged(STORAGE), PEER),
    }
    file = tmp_path / "results.json"
    file.write_text(results.json())
    page, picture, numbers = tmp_path / "page.md", tmp_path / "picture.svg", tmp_path / "numbers.json"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    for name, place in {"_PAGE": page, "_PICTURE": picture, "_NUMBERS": numbers}.items():
        monkeypatch.setattr(benchmark, name, place)
    assert benchmark.main(["--from", str(file), "--write-docs"]) == 0
    assert capsys.readouterr().out == markdown(results)
    assert page.read_text().endswith(f"{END}\nafter\n")
    assert all(f"| {target.text} |" in page.read_text() for target in targets(options))
    assert numbers.read_text() == results.json()
    assert picture.read_text() == svg(results)
    dots = [one for one in ET.fromstring(picture.read_text()).iter() if one.get("r") == "4"]  # noqa: S314 - our own
    assert len(dots) == len(targets(options))
