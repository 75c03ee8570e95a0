"""What is asked for: every behaviour and its line of the page, what chooses among them, which differences are known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from criimage.conformance.behaviour import GROUPS, Level, collected, selected
from criimage.conformance.known import read_known, shipped
from criimage.errors import ConfigurationError
from documentation.pages import page as page_text

if TYPE_CHECKING:
    from pathlib import Path


def test_behaviours_are_complete() -> None:
    """At least seventy, in every group, each with a sentence, a reason and a source, and numbered by its group."""
    found = collected()

    assert len(found) >= 70
    assert {one.group for one in found} == set(GROUPS)
    for one in found:
        assert re.fullmatch(r"[A-Z][1-9][0-9]?", one.number), one
        assert (one.sentence[-1], one.why[-1], bool(one.source)) == (".", ".", True), one.number
    letters = {one.group: {other.number[0] for other in found if other.group == one.group} for one in found}
    assert all(len(used) == 1 for used in letters.values())
    assert len({min(used) for used in letters.values()}) == len(GROUPS)


def test_patterns_choose_by_number_group_and_level() -> None:
    """`--only` and `--skip` take globs over each of the three, in any case."""
    assert [one.number for one in selected(["l1"], ())] == ["L1"]
    assert {one.group for one in selected(["Can*"], ())} == {"cancels"}
    assert {one.level for one in selected((), ["extended"])} == {Level.REQUIRED}
    assert selected(["list"], ["L*"]) == ()


def test_known_differences_that_come_with_it_are_read() -> None:
    """Each names behaviours that there are, a service with a version, and where it is from."""
    assert set(shipped()) >= {"containerd-1.6", "cri-o-1.36", "cri-dockerd-0.4.3"}
    for name in shipped():
        known = read_known(name)
        assert known.reasons()
        assert re.search(r"\d", known.service)
        assert re.fullmatch(r"20\d\d-\d\d-\d\d|from observations, not run here", known.seen)


def test_other_known_differences_are_judged(tmp_path: Path) -> None:
    """A missing file, no TOML, a wrong key or value and an unknown number are told with the file, in plain words."""
    for text, told in (
        ("[[[", "line 1, column 3: no key and no"),
        ('service="a"\nseeen="b"', r"known\.toml: seeen: no such key; did you mean seen\?"),
        ('service="a"\nseen=3', r'seen: must be text in "quotes", not a number'),
        ('service="a"\nseen="b"\ndifference=3', r'difference: must be a list, such as \["a", "b"\], not a number'),
        ('service="a"\nseen="b"\n[[difference]]\nnumber="Z9"\nyhw="c"', "difference: entry 1: yhw: no such key"),
        ('service="a"\nseen="b"\n[[difference]]\nnumber="Z9"\nwhy="c"', "Z9"),
    ):
        file = tmp_path / "known.toml"
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=told):
            read_known(str(file))
    with pytest.raises(ConfigurationError, match=r"containerd-1\.6"):
        read_known("no-such-file")


def test_the_page_has_every_behaviour() -> None:
    """docs/conformance.md lists each with its number, sentence, level and reason, and no other."""
    rows = [line for line in page_text("conformance").splitlines() if re.match(r"\| [A-Z]\d", line)]

    assert rows == [f"| {one.number} | {one.sentence} | {one.level.value} | {one.why} |" for one in collected()]
