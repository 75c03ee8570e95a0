"""Writes manual pages in roff with the `man` macros, which every `man` understands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Page"]

_CODE = re.compile(r"`([^`\n]+)`")


class Page:
    """One manual page, written from top to bottom.

    Args:
        name: such as `criimage-pull`.
        section: 1 to 8.
        summary: one line, for `apropos`.
        version: for the foot of the page.
    """

    def __init__(self, name: str, section: int, summary: str, version: str) -> None:
        self.name = name
        self.section = section
        # Without a date: the same version gives the same page.
        head = f'.TH "{escaped(name.upper())}" "{section}" "" "criimage {escaped(version)}" "criimage"'
        self._lines = ['.\\" Made by `criimage install` from the command itself.', head, ".nh", ".ad l"]
        self.heading("NAME")
        self._lines.append(f"{escaped(name)} \\- {_marked(summary)}")

    @property
    def file_name(self) -> str:
        """What the page's file is called."""
        return f"{self.name}.{self.section}"

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._lines.append(f'.SH "{escaped(text)}"')

    def below(self, text: str) -> None:
        """Begin a section inside of one."""
        self._lines.append(f'.SS "{escaped(text)}"')

    def paragraphs(self, text: str) -> None:
        """Write text; an empty line ends a paragraph, backticks make it bold."""
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            # The first paragraph below a heading has none of its own.
            if not self._lines[-1].startswith((".SH", ".SS")):
                self._lines.append(".PP")
            self._lines.append(_line(" ".join(paragraph.split())))

    def synopsis(self, command: str, rest: str) -> None:
        """Write how a command is called."""
        self._lines.append(f"\\fB{escaped(command)}\\fR {escaped(rest)}".rstrip())

    def term(self, term: str, meaning: str) -> None:
        """Write one entry of a list."""
        self._lines += [".TP", f"\\fB{escaped(term)}\\fR", _line(" ".join(meaning.split())) or "\\&"]

    def example(self, lines: Iterable[str]) -> None:
        """Write lines as they are."""
        self._lines += [".nf", *(_line(line, marked=False) for line in lines), ".fi"]

    def see_also(self, pages: Iterable[tuple[str, int]]) -> None:
        """Write the last section."""
        self.heading("SEE ALSO")
        self._lines.append(", ".join(f"\\fB{escaped(name)}\\fR({section})" for name, section in pages))

    def text(self) -> str:
        """Return the page."""
        return "\n".join(self._lines) + "\n"


def escaped(text: str) -> str:
    """Return text that roff prints as it is, where no line begins with it."""
    # A bare hyphen may become another character, which nobody can paste into a shell.
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")


def _marked(text: str) -> str:
    pieces = _CODE.split(text)
    return "".join(f"\\fB{escaped(piece)}\\fR" if index % 2 else escaped(piece) for index, piece in enumerate(pieces))


def _line(text: str, *, marked: bool = True) -> str:
    line = _marked(text) if marked else escaped(text)
    return f"\\&{line}" if line.startswith((".", "\\(aq")) else line
