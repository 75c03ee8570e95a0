"""How Sphinx builds these pages: `tox -e docs` for HTML and the manual pages."""  # noqa: INP001 - Sphinx wants it here

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

project = "criimage"
author = "the criimage developers"
project_copyright = author
release = installed_version("criimage")
version = release

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
# Taken as they are: the reports of the conformance command.
html_extra_path = ["published"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
highlight_language = "none"

html_theme = "furo"
html_title = f"criimage {release}"
html_show_copyright = False

man_pages = [
    ("reference/command-line", "criimage", "CRI image service for a Kubernetes node", [author], 8),
    ("reference/settings", "criimage.toml", "settings of the CRI image service criimage", [author], 5),
]


def _without_links(app: Any, doctree: Any, _page: str) -> None:  # noqa: ANN401 - Sphinx is not there to check types
    """Leave the words of links in manual pages, which have nowhere to lead to."""
    if app.builder.name != "man":
        return
    for node in list(doctree.findall()):
        if getattr(node, "tagname", "") == "reference" and not node.get("refuri"):
            node.replace_self(node.children)


def setup(app: Any) -> None:  # noqa: ANN401
    """Tell Sphinx what is ours."""
    app.connect("doctree-resolved", _without_links)
