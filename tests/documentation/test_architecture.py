"""Claims: the page on how it is built names rooms that there are, and leaves none of the server's out."""

from __future__ import annotations

from documentation.pages import PROJECT, code, page

PACKAGE = PROJECT / "criimage"
NAMED = [name for name in code(page("architecture")) if name.endswith((".py", "/")) and name[0] != "/"]


def test_every_room_that_is_named_is_there() -> None:
    """A module that moved takes its line along; those of the relay are named from its own folder."""
    places = (PACKAGE, PACKAGE / "server", PROJECT)
    missing = [name for name in NAMED if not any((place / name).exists() for place in places)]
    assert missing == []


def test_no_module_of_the_server_is_left_out() -> None:
    """By itself or with its folder."""
    modules = [file.relative_to(PACKAGE) for file in (PACKAGE / "server").rglob("*.py") if file.name != "__init__.py"]
    folders = tuple(name for name in NAMED if name.endswith("/"))
    left = [str(one) for one in modules if str(one) not in NAMED and not str(one).startswith(folders)]
    assert left == []
