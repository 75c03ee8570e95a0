"""Claims: the page of long runs leaves no long test out, and has rows for nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from documentation.pages import page, rows, sections

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent.parent


def long_tests() -> Iterator[str]:
    """The functions and classes that carry the marker, themselves or by one of their cases."""
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if any("mark.long" in ast.unparse(one) for one in node.decorator_list):
                yield node.name


def test_each_long_test_is_listed() -> None:
    """With what it shows: a reader sees what the claims stand on, and which of them have no row yet."""
    listed = [re.findall(r"`(\w+)`", row[0])[0] for row in rows(sections(page("long-runs"))["What there is"])]
    assert sorted(listed) == sorted(long_tests())
    assert len(set(listed)) == len(listed)


def test_rows_are_of_tests_that_there_are() -> None:
    """A test that was renamed or deleted takes its rows along."""
    named = {name for row in rows(sections(page("long-runs"))["Rows"]) for name in re.findall(r"`(test_\w+)", row[1])}
    assert named
    assert named <= set(long_tests())
