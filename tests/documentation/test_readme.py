"""Claims: what README and the notes of changes refer to exists."""

from __future__ import annotations

import re
import tomllib

from criimage import __version__
from criimage.plugins import installed
from documentation.pages import DOCS, PROJECT, code, rows

README = (PROJECT / "README.md").read_text("utf-8")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_every_make_target_exists() -> None:
    """Whatever README, guides and pages tell to `make` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z ]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE))
    known = {target for line in targets for target in line.split()}
    pages = [README, *(file.read_text("utf-8") for file in DOCS.rglob("*.md"))]
    asked = {target for text in pages for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)}
    assert {"demo", "serve", "check", "test"} <= asked <= known


def test_every_link_leads_to_a_file() -> None:
    """README's links lead to files of the project; those between pages are Sphinx's to check."""
    links = LINK.findall(README)
    assert len(links) > 10
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_backends_of_readme_and_pages_are_there() -> None:
    """README pairs runtimes with installed backends only, and no page describes a backend that is not there."""
    named = {name for row in rows(README) for name in code(row[1])}
    ours = {one.name for one in installed() if one.distribution == "criimage"}
    assert {"containers-storage"} <= named <= ours - {"memory"}
    assert ours >= {file.stem for file in (DOCS / "backends").glob("*.md")}


def test_every_note_of_a_change_has_a_type_that_towncrier_knows() -> None:
    """Notes are named NAME.TYPE.md, are one line of prose, and end with a full stop; a release leaves none."""
    config = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"]
    types = {kind["directory"] for kind in config["type"]}
    notes = list((PROJECT / config["directory"]).glob("*.md"))
    assert notes or f"## {__version__} (" in (PROJECT / "CHANGELOG.md").read_text("utf-8")
    for note in notes:
        assert note.name.split(".")[1] in types, note.name
        text = note.read_text("utf-8")
        assert re.fullmatch(r"[^-*#\s][^\n]*\.\n", text), note.name


def test_the_changelog_has_the_place_where_notes_go() -> None:
    """Towncrier puts a release's notes after this line."""
    assert "<!-- towncrier release notes start -->" in (PROJECT / "CHANGELOG.md").read_text("utf-8")
