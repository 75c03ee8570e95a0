#!/usr/bin/env python3
"""Looks over the built pages: tables that fell apart, markup that was left, dead links, public names that are not told.

    python docs/look_over.py FOLDER/html FOLDER/man

The standard library and criimage's sources only. Sphinx warns of what it sees in the source; this sees what came out.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_AS_WRITTEN = frozenset({"pre", "code", "script", "style", "title"})
_VOID = frozenset(
    {"img", "br", "hr", "input", "link", "meta", "source", "col", "wbr", "area", "base", "embed", "track"}
)
_ROW = re.compile(r"^\s*\|[^|\n]*\w|\w[^|\n]*\|\s*$|\|\s*:?-{3,}", re.MULTILINE)
_MANUAL = re.compile(r"\b(criimage[a-z.-]*)(?:\\fR|\\fP)?\((\d)\)")
_MARKUP = re.compile(r"\]\(|\.md\b|\{\w+\}`")
_UNREAD = re.compile(r"`[^`\n]+`|\]\(|\]\[|\*\*\w")
_SOURCES = Path(__file__).parent.parent
_API = ("criimage.backend", "criimage.errors", "criimage.reference")
_API_FOLDER = "criimage.testing"
# Whom others rest on, and what is run and not imported.
_NOT_FOR_AUTHORS = ("scale", "scripted_connection", "scripted_http", "scripted_hub", "scripted_acts")


@dataclass
class Page(HTMLParser):
    """What is of interest in one page.

    Attributes:
        anchors: what a link's fragment can mean.
        links: where it leads, as written, pictures and scripts included.
        text: what its paragraphs say, without what is shown as it was written.
        words: the same of all that is in it, paragraphs or not.
    """

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take names and links."""
        if tag not in _VOID:
            self._open.append(tag)
        for name, value in attrs:
            if value and (name == "id" or (name == "name" and tag == "a")):
                self.anchors.add(value)
            elif value and name in {"href", "src"}:
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened last by this name; HTML may leave out the rest."""
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Keep what is no code of each paragraph, which is all that a table can fall into."""
        if _AS_WRITTEN.isdisjoint(self._open):
            self.words.append(data)
            if "p" in self._open:
                self.text.append(data)


def pages_faults(folder: Path) -> list[str]:
    """Each fault of the HTML pages below a folder, with the page that has it."""
    pages: dict[Path, Page] = {}
    for file in sorted(folder.rglob("*.html")):
        page = pages[file.resolve()] = Page()
        page.feed(file.read_text("utf-8"))
        page.close()
    faults = []
    for file, page in pages.items():
        name = file.relative_to(folder.resolve())
        faults += [f"{name}: a table fell apart: {text.strip()[:60]!r}" for text in page.text if _ROW.search(text)]
        if name.parts[0] != "reports":  # What was found is shown there as it is.
            faults += [f"{name}: markup was left: {text.strip()[:60]!r}" for text in page.words if _UNREAD.search(text)]
        faults += [f"{name}: leads nowhere: {link}" for link in page.links if _dead(link, file, pages)]
    return faults


def _dead(link: str, page: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return True
    fragment = unquote(parts.fragment)
    # A page that runs a script makes of its fragment what it likes; our reports have their permalinks as anchors too.
    return bool(fragment) and target in pages and fragment not in pages[target].anchors


def api_faults(html: Path, sources: Path = _SOURCES) -> list[str]:
    """Each public name of the modules for authors of backends that their page does not tell."""
    page = Page()
    page.feed((html / "reference" / "api.html").read_text("utf-8"))
    folder = sources.joinpath(*_API_FOLDER.split("."))
    theirs = [file.stem for file in folder.glob("[!_]*.py")] + [
        file.parent.name for file in folder.glob("*/__init__.py")
    ]
    modules = [*_API, *(f"{_API_FOLDER}.{name}" for name in sorted({*theirs} - {*_NOT_FOR_AUTHORS}))]
    faults = []
    for module in modules:
        told_by = {name: f"{source}.{name}" for name, source in _public(sources, module).items()}
        missing = [n for n, whole in told_by.items() if not page.anchors & {whole, f"{module}.{n}"}]
        faults += [f"reference/api.html: {module}.{name} is not told" for name in missing]
    return faults


def _public(sources: Path, module: str) -> dict[str, str]:
    """What a module offers, each with the module that defines it."""
    file = sources.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse((file if file.is_file() else file.with_suffix("") / "__init__.py").read_text("utf-8"))
    found = {one.name: module for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef)}
    taken = {
        one.name: node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) for one in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return {name: taken.get(name, module) for name in ast.literal_eval(node.value)}
    return {name: source for name, source in found.items() if name[0] != "_"}


def manuals_faults(folder: Path) -> list[str]:
    """Each fault of the manual pages in a folder: pages of ours that are not there, and markup that was left."""
    manuals = [file for file in sorted(folder.rglob("*")) if re.search(r"\.\d$", file.name)]
    there = {file.name for file in manuals}
    faults = []
    for file in manuals:
        text = file.read_text("utf-8").replace("\\-", "-").replace("\\&", "")
        named = {f"{name}.{section}" for name, section in _MANUAL.findall(text)}
        faults += [f"{file.name}: no such manual page: {name}" for name in sorted(named - there)]
        faults += [f"{file.name}: markup was left: {line[:80]!r}" for line in text.splitlines() if _MARKUP.search(line)]
    return faults


def main(html: str, man: str) -> None:
    """Print the faults, and end with 1 if there are any."""
    for folder, pattern in ((html, "index.html"), (man, "*.8")):
        if not list(Path(folder).rglob(pattern)):
            sys.exit(f"{folder}: nothing is built there")
    faults = pages_faults(Path(html)) + api_faults(Path(html)) + manuals_faults(Path(man))
    for fault in faults:
        print(fault)  # noqa: T201 - what it is for
    if faults:
        sys.exit(1)
    manuals = len(list(Path(man).rglob("*.*")))
    print(f"{manuals} manual pages, no faults: {Path(man).resolve()}")  # noqa: T201
    print(f"{len(list(Path(html).rglob('*.html')))} pages, no faults: {(Path(html) / 'index.html').resolve()}")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:3])
