"""How Sphinx builds these pages; the manual is made by `criimage install`, from the code."""  # noqa: INP001 - Sphinx wants it here

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

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
autodoc_class_signature = "separated"
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

_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def _as_sphinx_reads(_app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:  # noqa: ANN401
    """Mark code in docstrings, which are written for readers of the source, as Sphinx marks it."""
    written: list[str] = []
    for line in lines:
        begins = line.startswith("    ") and not (written and written[-1].startswith("    "))
        if what == "module" and begins and not (written and written[-1]):
            written += ["::", ""]
        written.append(_CODE.sub(r"``\1``", line))
    lines[:] = written


def setup(app: Any) -> None:  # noqa: ANN401
    """Tell Sphinx what is ours."""
    # Before napoleon, which takes a colon in code for the end of a type.
    app.connect("autodoc-process-docstring", _as_sphinx_reads, priority=400)
