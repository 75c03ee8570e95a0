"""The contract's page and the suite say the same."""

from __future__ import annotations

import re
from pathlib import Path

from criimage.testing import conformance, stand
from criimage.testing.conformance import Capability

DOCUMENT = Path(__file__).parents[2] / "docs" / "contract.md"
NUMBER = re.compile(r"\bB\d+\b")


def test_every_behaviour_has_a_test() -> None:
    """A number on the page is cited by the suite, and the suite cites no number that is not there."""
    sources = [*Path(str(conformance.__file__)).parent.glob("*.py"), Path(str(stand.__file__))]
    cited = {number for source in sources for number in NUMBER.findall(source.read_text())}
    promised = re.findall(r"(?m)^\| (B\d+) \|", DOCUMENT.read_text())

    assert len(set(promised)) == len(promised)
    assert cited == set(promised)


def test_every_test_cites_a_behaviour() -> None:
    """A failing test names the promise that is broken."""
    tests = [name for name in dir(conformance.BackendConformance) if name.startswith("test_")]

    assert len(tests) > 25
    for name in tests:
        assert NUMBER.search(getattr(conformance.BackendConformance, name).__doc__), name


def test_every_capability_is_explained() -> None:
    """Each flag has its line with its default."""
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \|.*\| (yes|no) \|$", DOCUMENT.read_text()))

    single = [capability for capability in Capability if capability.name in rows]
    assert {capability.name for capability in single} == set(rows)
    assert len(rows) == sum(capability.value for capability in single).bit_count() == 11
    for capability in single:
        assert (rows[str(capability.name)] == "yes") == bool(Capability.EXPECTED & capability)
