"""Claims: what looks over the built pages sees what it is there for, and nothing in pages that are right."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from documentation.pages import DOCS

if TYPE_CHECKING:
    from pathlib import Path


def _module() -> Any:  # noqa: ANN401 - a module
    spec = importlib.util.spec_from_file_location("look_over", DOCS / "look_over.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["look_over"] = module
    spec.loader.exec_module(module)
    return module


LOOK_OVER = _module()

FINE = """
<p id="here">a <code>x | y</code> in code, and a|b in a text</p><pre>| a | b |</pre><br>
<a href="#here">up</a> <a href="other.html#there">over</a> <a href="https://example.com/gone#x">away</a>
<script>| x |</script><img src="pictures/one%20more.svg">
"""
OTHER = '<section id="there"><a name="too"></a><a href="fine.html#here">back</a></section>'


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Two pages and a picture that have no fault."""
    (tmp_path / "fine.html").write_text(FINE)
    (tmp_path / "other.html").write_text(OTHER)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one more.svg").touch()
    return tmp_path


def test_pages_that_are_right_have_no_fault(built: Path) -> None:
    """Code may have bars, and addresses elsewhere are not followed."""
    assert LOOK_OVER.pages_faults(built) == []


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ("<p>| Docker Engine | <code>docker</code> | works |</p>", "a table fell apart"),
        ("<p>| a | b |\n| --- | --- |</p>", "a table fell apart"),
        ("<ul><li>see ``Image`` and `Index`</li></ul>", "markup was left"),
        ("<dd>of [criimage.testing.oci][] images</dd>", "markup was left"),
        ("<h2>a **bold** word, and [a link](other.md)</h2>", "markup was left"),
        ('<a href="gone.html">x</a>', "leads nowhere: gone.html"),
        ('<a href="other.html#gone">x</a>', "leads nowhere: other.html#gone"),
        ('<a href="#gone">x</a>', "leads nowhere: #gone"),
        ('<img src="pictures/gone.svg">', "leads nowhere: pictures/gone.svg"),
    ],
)
def test_what_fell_apart_or_leads_nowhere_is_told(built: Path, html: str, fault: str) -> None:
    """A table that a blank line cut in two, a page, a heading and a picture that are not there."""
    (built / "fine.html").write_text(FINE + html)
    faults = LOOK_OVER.pages_faults(built)
    assert faults
    assert all(told.startswith(f"fine.html: {fault}") for told in faults)


def test_public_names_that_are_not_told(tmp_path: Path) -> None:
    """A name counts as told where its module is or where the module is that defines it; private ones need not be."""
    written = {
        "backend": "from criimage.values import Image\n__all__ = ['Backend', 'Image', 'Gone']\nclass Other: ...",
        "errors": "class Fault: ...\nclass _Private: ...",
        "reference": "__all__ = []",
        "testing/oci": "def image(): ...",
        "testing/suite/__init__": "class Suite: ...",
        "testing/scripted_acts": "class Hang: ...",
    }
    for name, source in written.items():
        file = tmp_path / "criimage" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    told = ("backend.Backend", "values.Image", "testing.oci.image")
    page = tmp_path / "html" / "reference" / "api.html"
    page.parent.mkdir(parents=True)
    page.write_text("".join(f'<dt id="criimage.{name}"></dt>' for name in told))

    assert LOOK_OVER.api_faults(tmp_path / "html", tmp_path) == [
        "reference/api.html: criimage.backend.Gone is not told",
        "reference/api.html: criimage.errors.Fault is not told",
        "reference/api.html: criimage.testing.suite.Suite is not told",
    ]


def test_references_of_manual_pages(tmp_path: Path) -> None:
    """Another page of ours must be there, in roff's writing too; a link's markup may not be left; others' pages may."""
    (tmp_path / "criimage.8").write_text("See \\fBcriimage.toml\\fP(5), criimage\\-gone(1) and systemd.unit(5).\n")
    (tmp_path / "criimage.toml.5").write_text("[text](page.md)\n")
    assert LOOK_OVER.manuals_faults(tmp_path) == [
        "criimage.8: no such manual page: criimage-gone.1",
        "criimage.toml.5: markup was left: '[text](page.md)'",
    ]
