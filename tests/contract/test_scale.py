"""The scale for backends: what it takes for each tier, and that it falls with each kind of evidence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from criimage.conformance.behaviour import collected
from criimage.testing.scale import RULES, TIERS, Evidence, main, reached
from documentation.pages import page

if TYPE_CHECKING:
    from pathlib import Path


def evidence(
    folder: Path,
    *,
    failing: str = "",
    bad: str = "",
    known: str = "",
    left: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> tuple[Path, Path]:
    """Reports in which everything passed but what is named."""
    cases = [f'<testcase name="test_{n}"/>' for n in range(40)]
    cases += [f'<testcase name="test_{one}"><skipped message="T declares no {one}"/></testcase>' for one in without]
    if failing:
        cases.append(f'<testcase name="{failing}"><failure/></testcase>')
    contract, wire = folder / "contract.xml", folder / "wire.json"
    contract.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    results: list[dict[str, Any]] = [
        {
            "number": one.number,
            "group": one.group,
            "level": one.level.value,
            "outcome": "failed"
            if bad in {one.number, one.group}
            else "known difference"
            if known == one.number
            else "passed",
        }
        for one in collected()
    ]
    wire.write_text(json.dumps({"results": results, "left": list(left)}))
    return contract, wire


def judged(folder: Path, name: str = "containers-storage", **what: Any) -> tuple[str, set[int]]:  # noqa: ANN401
    """The tier, and the numbers of the rules that do not hold."""
    tier, missing = reached(Evidence.read(name, *evidence(folder, **what)))
    return tier, {rule.number for rule in missing}


def test_twenty_rules_in_three_tiers() -> None:
    """Numbered from 1, every tier has some, and the page lists them as they are."""
    assert [rule.number for rule in RULES] == list(range(1, 21))
    assert list(dict.fromkeys(rule.tier for rule in RULES)) == list(TIERS)
    text = page("writing-a-backend")
    for rule in RULES:
        assert f"| {rule.number} | {rule.tier} | {rule.sentence} |" in text


@pytest.mark.parametrize("name", ["containers-storage", "docker", "cri"])
def test_a_backend_of_ours_can_be_exemplary(name: str, tmp_path: Path) -> None:
    """With all reports good nothing that is judged from the package is missing."""
    assert judged(tmp_path, name) == ("exemplary", set())


@pytest.mark.parametrize(
    ("what", "tier", "missing"),
    [
        ({"failing": "test_other"}, "", {5}),
        ({"bad": "P1"}, "", {6, 20}),
        ({"left": ("a",)}, "", {7}),
        ({"bad": "L6"}, "usable", {9, 20}),
        ({"bad": "C7"}, "usable", {10, 20}),
        ({"bad": "D7"}, "usable", {11, 20}),
        ({"bad": "Q2"}, "usable", {12, 20}),
        ({"bad": "E5"}, "usable", {14, 20}),
        ({"without": ("IN_USE", "NAMING", "STALL")}, "exemplary", set()),
        ({"without": ("CORRUPT", "STALL")}, "usable", {15}),
        ({"bad": "H11"}, "dependable", {16, 20}),
        ({"bad": "X1"}, "", {6, 18, 20}),
        ({"known": "X1"}, "dependable", {18}),
        ({"known": "D2"}, "exemplary", set()),
        ({"bad": "U4"}, "dependable", {17, 20}),
    ],
    ids=str,
)
def test_each_fault_costs_its_rule(what: dict[str, Any], tier: str, missing: set[int], tmp_path: Path) -> None:
    """A failure costs the rule that it is about, and with it the tier."""
    assert judged(tmp_path, **what) == (tier, missing)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what is missing, the tier, and what is let pass; and ends with 0 at the top only."""
    contract, wire = evidence(tmp_path)
    reports = ["--contract", str(contract), "--wire", str(wire)]
    assert main(["containers-storage", *reports]) == 0
    assert capsys.readouterr().out == "containers-storage: exemplary, 20 of 20 rules\n"

    evidence(tmp_path, known="D2", without=("STOPS_PULLS",))
    assert main(["containers-storage", *reports]) == 0
    told = "exemplary, 20 of 20 rules; known differences: D2; without STOPS_PULLS"
    assert capsys.readouterr().out == f"containers-storage: {told}\n"

    contract, wire = evidence(tmp_path, bad="errors")
    assert main(["containers-storage", *reports]) == 1
    assert "missing 14 (dependable)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["no-such", *reports])
