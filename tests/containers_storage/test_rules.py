"""Every rule of CRI-O's image semantics has a test that names it, or a reason in the docs why it has none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from documentation.pages import code, page, rows, sections

TESTS = Path(__file__).parent.parent
PLACES = ("containers_storage", "contract", "pulls", "values")
RULES = {"N": 13, "A": 11, "P": 19, "S": 19, "R": 8, "F": 3, "E": 5, "C": 7, "T": 18, "L": 14, "V": 5, "X": 3}
"""How many rules there are of each letter: names, credentials, pulls, status and lists, removals, figures, errors,
configuration, tools, locks and files, versions, rootless."""

_CITED = re.compile(r"\b([A-Z])(\d{1,2})(?:-\1?(\d{1,2}))?\b")


def cited(text: str) -> set[str]:
    """The rules that a text names; `S3-S5` names three."""
    return {
        f"{letter}{number}"
        for letter, first, last in _CITED.findall(text)
        for number in range(int(first), int(last or first) + 1)
    }


def named_by_tests(*places: str) -> set[str]:
    """The rules that the docstrings of tests in these folders name."""
    found: set[str] = set()
    for file in (file for place in places for file in (TESTS / place).glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found |= cited(ast.get_docstring(node) or "")
    return found


def left_out() -> dict[str, str]:
    """The rules that the backend's page leaves out, each with its reason."""
    table = rows(sections(page("backends/containers-storage"))["Rules that are left out"])
    # What is left out in part has a test for the other part.
    return {rule: reason for names, _, reason in table for rule in code(names) if "in part" not in names}


def test_each_rule_has_its_test() -> None:
    """No rule is without a test or a reason, and none has both."""
    rules = {f"{letter}{number}" for letter, count in RULES.items() for number in range(1, count + 1)}
    without = left_out()
    assert all(without.values())
    assert set(without) <= rules
    missing = rules - named_by_tests(*PLACES) - set(without)
    assert not missing, sorted(missing)
    assert not (both := named_by_tests("containers_storage") & set(without)), sorted(both)
