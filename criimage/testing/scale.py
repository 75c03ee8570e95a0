"""How far a backend is: twenty rules in three tiers, judged from what its suites wrote and from the installed package.

    pytest test_contract.py --junit-xml contract.xml
    criimage conformance --endpoint unix:///... --restart COMMAND --json wire.json
    python -m criimage.testing.scale NAME --contract contract.xml --wire wire.json

A tier is reached when all its rules and those of the tiers below hold. A known difference breaks few rules, but is told
with the result, and so is an expected capability that the contract's tests leave out. Exit code 0: the third; 1: not;
2: usage.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.resources
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from criimage.errors import ConfigurationError
from criimage.plugins import CONTRACT, installed, load
from criimage.testing.stand import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from criimage.plugins import Plugin

__all__ = ["RULES", "TIERS", "Evidence", "Rule", "main", "reached"]

TIERS = ("usable", "dependable", "exemplary")

_CHEAP = frozenset(
    {"criimage", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
)
# Prints the packages that importing a module brings, without what the core brings by itself.
_IMPORTS = """
import sys, importlib
import criimage.plugins
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rules look at.

    Attributes:
        plugin: the backend's.
        module: the import name of its package.
        passed: names of the contract's tests that passed.
        failed: of those that failed.
        left_out: expected capabilities that the tests' class does not declare.
        wire: the JSON report of `criimage conformance`.
    """

    plugin: Plugin[Any]
    module: str
    passed: frozenset[str]
    failed: frozenset[str]
    left_out: Capability
    wire: dict[str, Any]

    @classmethod
    def read(cls, name: str, contract: Path, wire: Path) -> Evidence:
        """Gather it.

        Raises:
            ConfigurationError: the backend is not installed, or a report cannot be read.
        """
        plugin = load(name)
        (module,) = {one.value.partition(":")[0] for one in _entry_points(name)}
        try:
            cases = list(ET.fromstring(contract.read_text("utf-8")).iter("testcase"))  # noqa: S314 - our own pytest's
            report = json.loads(wire.read_text("utf-8"))
        except (OSError, ValueError, ET.ParseError) as error:
            raise ConfigurationError(f"a report cannot be read: {error}") from error
        failed = {_name(one) for one in cases if one.find("failure") is not None or one.find("error") is not None}
        skipped = {_name(one): str(why.get("message")) for one in cases if (why := one.find("skipped")) is not None}
        passed = {_name(one) for one in cases} - failed - set(skipped)
        left_out = Capability(0)
        for reason in skipped.values():
            left_out |= Capability.__members__.get(reason.rpartition("declares no ")[2], Capability(0))
        left_out &= Capability.EXPECTED
        return cls(plugin, module.partition(".")[0], frozenset(passed), frozenset(failed), left_out, report)

    def groups(self, *names: str, level: str = "") -> list[dict[str, Any]]:
        """Return the results of some groups, or of all where none is named."""
        results = self.wire["results"]
        return [one for one in results if (not names or one["group"] in names) and level in {"", one["level"]}]

    def sound(self, *names: str, level: str = "") -> bool:
        """Whether something of these was tried and nothing of it failed, known differences apart."""
        found = {one["outcome"] for one in self.groups(*names, level=level)}
        return bool(found & {"passed"}) and not found & {"failed", "unexpected pass", "suite error"}

    def with_outcome(self, outcome: str) -> list[str]:
        """Return the numbers of the behaviours that ended so."""
        return [one["number"] for one in self.wire["results"] if one["outcome"] == outcome]


def _name(case: ET.Element) -> str:
    return str(case.get("name")).partition("[")[0]


def _entry_points(name: str) -> Iterator[importlib.metadata.EntryPoint]:
    yield from importlib.metadata.entry_points(group="criimage.backends", name=name)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        number: from 1 on.
        tier: one of TIERS.
        sentence: what holds.
        holds: judges it.
    """

    number: int
    tier: str
    sentence: str
    holds: Callable[[Evidence], bool]


def _imports_are_cheap(evidence: Evidence) -> bool:
    command = [sys.executable, "-c", _IMPORTS, evidence.module]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter
    brought = set(ended.stdout.split()) - set(sys.stdlib_module_names) - _CHEAP - {evidence.module}
    # One with an underscore belongs to the interpreter.
    return ended.returncode == 0 and not {one for one in brought if not one.startswith("_")}


def _has_file(evidence: Evidence, name: str) -> bool:
    return importlib.resources.files(evidence.module).joinpath(name).is_file()


def _typed(evidence: Evidence) -> bool:
    try:
        return _has_file(evidence, "py.typed")
    except TypeError:
        return False  # a single module cannot have one


_RULES: tuple[tuple[str, str, Callable[[Evidence], bool]], ...] = (
    ("usable", "It is written for this version of the contract.", lambda one: one.plugin.contract == CONTRACT),
    (
        "usable",
        "Its settings refuse unknown keys.",
        lambda one: one.plugin.settings_model.model_config.get("extra") == "forbid",
    ),
    (
        "usable",
        "Each of its settings is described.",
        lambda one: all(field.description for field in one.plugin.settings_model.model_fields.values()),
    ),
    ("usable", "It works without any setting.", lambda one: one.plugin.settings_model() is not None),
    ("usable", "No test of the contract fails, and at least thirty pass.", lambda one: _contract_passed(one)),
    ("usable", "Every required behaviour on the wire is there.", lambda one: one.sound(level="required")),
    ("usable", "Nothing of a run on the wire is left behind.", lambda one: one.wire["left"] == []),
    ("dependable", "Importing it brings no library: those are for opening.", _imports_are_cheap),
    ("dependable", "What it holds and lists is found by every form of name.", lambda one: one.sound("list", "status")),
    ("dependable", "Each pull proves that the caller may have the image.", lambda one: one.sound("credentials")),
    ("dependable", "A cancelled pull stops and leaves nothing.", lambda one: one.sound("cancels")),
    ("dependable", "Calls at once do not disturb each other.", lambda one: one.sound("concurrency")),
    ("dependable", "A call again changes nothing.", lambda one: one.sound("idempotence")),
    ("dependable", "Failures are told by kind, in stable texts without secrets.", lambda one: one.sound("errors")),
    (
        "dependable",
        "Of the expected capabilities its contract's tests leave out one at the most.",
        lambda one: one.left_out.value.bit_count() <= 1,
    ),
    ("exemplary", "It survives hostile registries, images and names.", lambda one: one.sound("hostile", "names")),
    ("exemplary", "Usage is true and fresh.", lambda one: one.sound("usage")),
    ("exemplary", "What is stored outlives a restart.", lambda one: "X1" in one.with_outcome("passed")),
    ("exemplary", "It is typed.", _typed),
    ("exemplary", "What differs on the wire is a known difference with a reason.", lambda one: one.sound()),
)

RULES = tuple(Rule(number, *rule) for number, rule in enumerate(_RULES, 1))
"""Every rule, by tier."""


def _contract_passed(evidence: Evidence) -> bool:
    return not evidence.failed and len(evidence.passed) >= 30


def reached(evidence: Evidence) -> tuple[str, tuple[Rule, ...]]:
    """Return the tier that is reached, empty for none, and the rules that do not hold."""
    missing = tuple(rule for rule in RULES if not rule.holds(evidence))
    tier = ""
    for name in TIERS:
        if any(rule.tier == name for rule in missing):
            break
        tier = name
    return tier, missing


def main(arguments: list[str]) -> int:
    """Judge a backend and print what is missing."""
    parser = argparse.ArgumentParser(prog="python -m criimage.testing.scale")
    parser.add_argument("name", help="of the backend, as `criimage backends` has it")
    parser.add_argument("--contract", type=Path, required=True, help="JUnit report of its contract tests")
    parser.add_argument("--wire", type=Path, required=True, help="JSON report of `criimage conformance`")
    chosen = parser.parse_args(arguments)
    if chosen.name not in {one.name for one in installed()}:
        parser.error(f"no backend {chosen.name} is installed")
    try:
        evidence = Evidence.read(chosen.name, chosen.contract, chosen.wire)
    except ConfigurationError as error:
        parser.error(error.text)
    tier, missing = reached(evidence)
    for rule in missing:
        print(f"missing {rule.number:2} ({rule.tier}): {rule.sentence}")  # noqa: T201 - it is a command
    words = [f"{tier or 'not yet usable'}, {len(RULES) - len(missing)} of {len(RULES)} rules"]
    if known := evidence.with_outcome("known difference"):
        words.append(f"known differences: {', '.join(known)}")
    if evidence.left_out:
        words.append(f"without {', '.join(str(one.name) for one in evidence.left_out)}")
    print(f"{chosen.name}: {'; '.join(words)}")  # noqa: T201
    return 0 if tier == TIERS[-1] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
