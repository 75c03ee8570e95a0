"""How Sphinx builds these pages; the manual is made by `criimage install`, from the code."""  # noqa: INP001 - Sphinx wants it here

from __future__ import annotations

import enum
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import from_code

project = "criimage"
author = "the criimage developers"
project_copyright = author
release = installed_version("criimage")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Taken as they are: the reports of the conformance command.
html_extra_path = ["published"]
nitpicky = True

# The API is written down where it is defined. What its signatures name of others has no page here.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["pytest", "pytest_asyncio"]
napoleon_use_ivar = True
nitpick_ignore_regex = [("py:.*", ".*")]
# Two classes of one name: either may be meant where an annotation gives it without its module.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
highlight_language = "none"

html_theme = "furo"
html_title = f"criimage {release}"
html_show_copyright = False
html_static_path = ["style"]
html_css_files = ["site.css"]
# A browser lets no page that is a file fetch others for their summaries.
html_show_search_summary = False

_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# Numbers of the notes that a behaviour was copied from: for readers of the source.
_RULES = re.compile(r" \((?:[a-z-]+ )?[NS]\d[^)]*\)")
# Napoleon takes what stands before the first colon of an attribute's text for its type.
_COLON = "\N{ONE DOT LEADER}"


def _as_sphinx_reads(_app: Any, what: str, name: str, _object: Any, _options: Any, lines: list[str]) -> None:  # noqa: ANN401
    """Mark code in docstrings, which are written for readers of the source, as Sphinx marks it."""
    if name.endswith(".kind") and name != "criimage.errors.CriimageError.kind":
        lines.clear()  # What it is has been said once; the value says which.
    written: list[str] = []
    as_it_is = False
    for line in lines:
        indented = line.startswith("    ")
        if what == "module" and indented and not as_it_is:
            written += ["::", ""]
        as_it_is = (what == "module" and indented) or (as_it_is and not line)
        written.append(line if as_it_is else _RULES.sub("", _CODE.sub(r"``\1``", line)))
    if what in {"attribute", "data", "property"}:
        written = [line.replace(": ", f"{_COLON} ") for line in written]
    lines[:] = written


def _after_napoleon(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:  # noqa: ANN401
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _what_is_left_out(_app: Any, _what: str, name: str, member: Any, skip: bool, _options: Any) -> bool | None:  # noqa: ANN401
    """Every value of an enumeration is shown; what pydantic puts into a class is not."""
    if isinstance(member, enum.Enum):
        return False
    return skip or name == "model_config"


def _what_is_called(_app: Any, what: str, _name: str, one: Any, _options: Any, signature: Any, returns: Any) -> Any:  # noqa: ANN401
    """Nobody calls a protocol or an enumeration, nor a suite whose pytest is not here."""
    called = what != "class" or not (getattr(one, "_is_protocol", False) or issubclass(one, enum.Enum))
    return (signature, returns) if called and not str(signature).startswith("(*args: ") else ("", returns)


def _write_from_code(app: Any) -> None:  # noqa: ANN401
    from_code.write(Path(app.srcdir) / "_build" / "from_code")


def setup(app: Any) -> None:  # noqa: ANN401
    """Tell Sphinx what is ours."""
    app.connect("builder-inited", _write_from_code)
    # Before napoleon, which takes a colon in code for the end of a type.
    app.connect("autodoc-process-docstring", _as_sphinx_reads, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    app.connect("autodoc-skip-member", _what_is_left_out)
    app.connect("autodoc-process-signature", _what_is_called)
