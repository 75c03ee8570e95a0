"""Claims: each block of commands of README and the pages is typed by a test, or it says why none can."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from documentation.pages import PROJECT, fenced
from documentation.typed_blocks import CI, LANGUAGES, TYPED, Untyped, blocks_for, command_blocks, every_page, path_of

TESTS = Path(__file__).parent.parent

_DATA = re.compile(r"toml|yaml|json|ini|text|python|\{[a-z-]+\}.*")
_SYNOPSES = "docs/reference/command-line"
"""Its blocks are lines of usage, and a test of their own holds them."""
_PROGRAMS = frozenset({"apt", "apt-get", "criimage", "crictl", "curl", "make", "pip", "python", "python3", "systemctl"})


def test_each_block_of_each_page_is_in_the_table() -> None:
    """A page with commands, or one block more on a page, cannot be forgotten."""
    there = {path_of(file): len(command_blocks(path_of(file))) for file in every_page()}
    assert {page: count for page, count in there.items() if count} == {page: len(by) for page, by in TYPED.items()}
    for by in TYPED.values():
        assert all(one.reason.strip() for one in by if isinstance(one, Untyped))


@pytest.mark.parametrize("file", every_page(), ids=path_of)
def test_no_other_block_has_commands(file: Path) -> None:
    """A block is of a language that is commands, or of one that is none; one without any is drawn or shown."""
    for language, body in fenced(file.read_text("utf-8")):
        if re.fullmatch(LANGUAGES, language):
            continue
        assert not re.search(r"^ *\$ ", body, re.MULTILINE), body
        if not language and path_of(file) != _SYNOPSES:
            first = {line.split()[0] for line in body.splitlines() if line.strip()}
            assert not first & _PROGRAMS, body
        else:
            assert not language or _DATA.fullmatch(language), language


def test_each_block_is_asked_for() -> None:
    """Every test of the table is there, and asks for the blocks of the page that it stands at, and for no others."""
    named = {
        (test, page)
        for page, by in TYPED.items()
        for one in by
        if one != CI and not isinstance(one, Untyped)
        for test in ((one,) if isinstance(one, str) else one)
    }
    asked = set()
    for file in TESTS.rglob("test_*.py"):
        for function in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                asked |= {(function.name, page) for page in _asked_for(function)}
    assert asked == named


def _asked_for(function: ast.FunctionDef) -> set[str]:
    """The pages in calls that have the function's own name before them."""
    found = set()
    for call in ast.walk(function):
        if isinstance(call, ast.Call):
            words = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
            if function.name in words:
                found |= {str(word) for word in words if word != function.name}
    return found


def test_ci_is_the_command_of_the_readme() -> None:
    """`.ci/run` runs what README has at its place in the table, so each run types it."""
    (place,) = (at for at, by in enumerate(TYPED["README"]) if by == CI)
    (line,) = command_blocks("README")[place].splitlines()
    command = line.split("#")[0].strip()
    assert f"exec {command} " in (PROJECT / CI).read_text("utf-8")
    assert blocks_for("nobody", "README") == []


def _untyped() -> list[str]:
    blocks = [
        block
        for page, by in TYPED.items()
        for block, one in zip(command_blocks(page), by, strict=True)
        if isinstance(one, Untyped)
    ]
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    "line", [line for line in _untyped() if re.match(r"cd tests && python -m |make (bench|soak)", line)]
)
def test_what_takes_hours_has_the_options_that_there_are(line: str) -> None:
    """Each option is one that the program's help has, also where `make` passes it on."""
    module = {"bench": "benchmarks", "soak": "soak"}.get(line.split()[1]) or line.split()[5]
    words = shlex.split(line, comments=True)
    options = {word.split("=")[0] for given in words for word in re.findall(r"(?:^|[ =])(--[a-z-]+)", given)}
    command = [sys.executable, "-m", module, "--help"]
    told = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=True).stdout
    assert options <= set(re.findall(r"--[a-z-]+", told)), told
