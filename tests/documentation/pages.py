"""The pages of the documentation, as far as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
DOCS = PROJECT / "docs"

_TERM = re.compile(r"^`[^`\n]+`(?:, `[^`\n]+`)*$", re.MULTILINE)
_FENCED = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^`\n]*)\n(?P<body>.*?)^ *(?P=fence)$", re.DOTALL | re.MULTILINE
)
_CODE = re.compile(r"`([^`\n]+)`")


def page(name: str) -> str:
    """A page's text, by its path below `docs` without the ending."""
    return (DOCS / f"{name}.md").read_text("utf-8")


def sections(text: str) -> dict[str, str]:
    """The sections of second level, by their titles without backticks."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {title.replace("`", ""): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def definitions(section: str) -> dict[str, str]:
    """A definition list: each term in backticks with its definition, one entry for each of several terms."""
    terms = list(_TERM.finditer(section))
    ends = [*(term.start() for term in terms[1:]), len(section)][: len(terms)]
    return {
        name: section[term.end() : end].strip().removeprefix(": ")
        for term, end in zip(terms, ends, strict=True)
        for name in _CODE.findall(term[0])
    }


def rows(section: str) -> list[list[str]]:
    """The rows of the first table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<= )\|", line.strip("|"))] for line in lines[2:]]


def code(text: str) -> list[str]:
    """What stands in backticks."""
    return _CODE.findall(text)


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a language, as they stand there; those of a list without its indentation.

    Args:
        text: of a page.
        language: a regular expression for all of it.
    """
    return [body for written, body in fenced(text) if re.fullmatch(language, written)]


def fenced(text: str) -> list[tuple[str, str]]:
    """Every block between fences: what stands behind the first fence, and the block."""
    found = _FENCED.finditer(text)
    return [(one["language"], re.sub(rf"^{one['indent']}", "", one["body"], flags=re.MULTILINE)) for one in found]
