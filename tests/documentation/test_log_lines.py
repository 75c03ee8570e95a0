"""Claims: lines of the log that pages show look as those that a server writes (issue 14, A7)."""

from __future__ import annotations

import re
from typing import NamedTuple

from cli.command import at_once
from documentation.pages import DOCS
from operating.staged import staged_server

_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"(?P<time>\S+Z) \[(?P<level>\w+) *\] (?P<event>.{30}|.{1,29}$) ?(?P<rest>.*)")
_WITHOUT_ITS_TIME = re.compile(r"[a-z ]+ {2,}\w+=")
_SHOWN = {"serving", "pull started", "pull finished"}
"""What pages show; another event wants to be made to happen below."""


class Shape(NamedTuple):
    """What is the same of each line about one event: its level, and its fields in their order."""

    level: str
    event: str
    keys: tuple[str, ...]


def shape(line: str) -> Shape:
    """The shape of a line; fails if it is none."""
    found = _LINE.fullmatch(line)
    assert found, line
    keys = re.findall(r"(?:^| )(\w+)=", re.sub(r"\[[^]]*\]|'[^']*'", "", found["rest"]))
    return Shape(found["level"], found["event"].strip(), tuple(keys))


def test_lines_on_pages_are_as_real_ones_are() -> None:
    """Level, width, fields and their order: who searches a log for what a page shows finds it."""
    blocks = [
        (page.name, line)
        for page in sorted(DOCS.rglob("*.md"))
        for block in _FENCE.findall(page.read_text("utf-8"))
        for line in block.splitlines()
    ]
    shown = [(name, shape(line)) for name, line in blocks if _LINE.match(line) or _WITHOUT_ITS_TIME.match(line)]
    assert {one.event for _, one in shown} == _SHOWN

    with staged_server() as server:
        at_once("pull", "-q", "example.com/demo", "--endpoint", server.endpoint)
        server.stop()
        real = {one.event: one for one in map(shape, server.log_text().splitlines())}

    assert [(name, one) for name, one in shown if real[one.event] != one] == []
