"""Claims: the page on how it is built names rooms that there are, and leaves none out."""

from __future__ import annotations

import re

from documentation.pages import PROJECT, code, page

PACKAGE = PROJECT / "criimage"
PAGE = page("architecture")
_PARTS = re.split(r"\n(?=\d+\. |\||\n)", PAGE)
"""Paragraphs, items of lists and rows of tables."""


def names(text: str) -> list[str]:
    """The modules and folders that a text names."""
    return [name for name in code(text) if name.endswith((".py", "/")) and name[0] != "/"]


def test_every_room_that_is_named_is_there() -> None:
    """A module that moved takes its line along; one may be named from a folder that stands in the same part."""
    missing = []
    for part in _PARTS:
        folders = [PACKAGE / name for name in names(part) if name.endswith("/")]
        places = (PACKAGE, PACKAGE / "server", PROJECT, *folders)
        missing += [name for name in names(part) if not any((place / name).exists() for place in places)]
    assert missing == []


def test_no_module_is_left_out() -> None:
    """By itself or with its folder."""
    modules = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if file.name[:2] != "__"]
    folders = tuple(name for name in names(PAGE) if name.endswith("/"))
    left = [str(one) for one in modules if str(one) not in names(PAGE) and not str(one).startswith(folders)]
    assert left == []
