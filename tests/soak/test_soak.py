"""The soak run itself: what grows is found, a failure is not excused without a reason, and the picture shows both."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from soak.judge import FEWEST, judged
from soak.node import SETTLE_SECONDS, Outage
from soak.plot import svg
from soak.report import markdown, row
from soak.run import Run, soaked
from soak.samples import MEASURES, Sample

FLAT = Sample(at=0, memory=50, descriptors=15, threads=5, tasks=8, p50=0.5, p99=4, bare50=0.5, bare99=2, life=1)
DRAWN = 7


def life(*, count: int = 30, number: int = 1, grows: str = "", by: float = 0.0) -> list[Sample]:
    """Samples of one life, of which one measure grows by so much in all."""
    made = [replace(FLAT, at=float(index), life=number) for index in range(count)]
    grows = {"median": "p50", "tail": "p99"}.get(grows, grows)
    if not grows:
        return made
    return [replace(one, **{grows: getattr(one, grows) + by * index / count}) for index, one in enumerate(made)]


@pytest.mark.parametrize("measure", MEASURES)
def test_what_grows_is_found(measure: str) -> None:
    """Each measure is judged by itself, over the server's last life only."""
    verdicts = judged("x", [*life(number=1, grows=measure, by=1e6), *life(number=2)])
    assert all(one.flat for one in verdicts)
    verdicts = judged("x", [*life(number=1), *life(number=2, grows=measure, by=200)])
    assert [one.measure for one in verdicts if not one.flat] == [measure]
    run = Run(60, {"x": life(grows=measure, by=200)})
    assert f"x: {measure} grew from" in run.complaints()[0]
    assert "GREW" in markdown(run)
    assert "NOT FLAT" in row(run, "2026-01-01", "these")


def test_a_busy_machine_is_no_growth() -> None:
    """What makes a bare server slow in the same moment says nothing about ours."""
    busy = [
        replace(one, p50=one.p50 * 20, p99=one.p99 * 20, bare50=one.bare50 * 20, bare99=one.bare99 * 20)
        for one in life()
    ]
    assert all(one.flat for one in judged("x", [*life(), *busy]))
    alone = [replace(one, p50=one.p50 * 20, p99=one.p99 * 20) for one in life()]
    assert {one.measure for one in judged("x", [*life(), *alone]) if not one.flat} == {"median", "tail"}


def test_too_short_a_life_says_nothing() -> None:
    """A verdict over a handful of samples would be luck."""
    with pytest.raises(ValueError, match="too short"):
        judged("x", life(count=FEWEST - 1))


def test_only_a_restart_at_the_time_excuses() -> None:
    """A call may fail if it went on during a restart or just after it, and not before nor later."""
    outage = Outage("engine", 100, 110)
    assert outage.excuses(99, 101)
    assert outage.excuses(109, 111)
    assert outage.excuses(110 + SETTLE_SECONDS - 1, 200)
    assert not outage.excuses(90, 99)
    assert not outage.excuses(110 + SETTLE_SECONDS + 1, 200)
    assert Outage("engine", 100).excuses(10_000, 10_001)


def test_the_picture_has_each_server_and_restart() -> None:
    """Well-formed, a line for each life of each measure, a mark for each restart of what a server works with."""
    samples = {"docker": [*life(number=1), *life(number=2)], "cri": life()}
    picture = svg(dict(samples), [(10, "engine"), (20, "docker"), (25, "registry")], 60)
    tree = ET.fromstring(picture)  # noqa: S314 - our own
    lines = [one for one in tree.iter() if one.tag.endswith("polyline")]
    marks = [one for one in tree.iter() if one.get("stroke-dasharray") and one.get("y1") != "30"]
    assert len(lines) == 2 * DRAWN + DRAWN
    assert len(marks) == 3 * 3 + 1 * 3  # of docker all three, of cri the registry alone; three panels each


@pytest.mark.engine
async def test_a_short_soak_holds() -> None:
    """The short form of `make soak`: a real store, a registry that is killed, a server that is started again."""
    said: list[str] = []
    run = await soaked(6, ["containers-storage"], said.append, pause=0.3)
    assert [part for _, part in run.restarts].count("containers-storage") == 2
    assert any("registry was restarted" in line for line in said)
    (traffic,) = run.traffic.values()
    # How many pulls a busy machine manages in this time is no claim.
    assert traffic.tally["ListImages", "ok"]
    assert [*traffic.unexpected, *run.faults] == []
