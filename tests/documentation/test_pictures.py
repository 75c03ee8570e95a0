"""Claims: a browser shows the pictures of the documentation, and none of them fetches anything from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from benchmarks.call_cpu import _Sampler
from documentation.pages import DOCS

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = sorted(DOCS.rglob("*.svg"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_one(picture: Path) -> None:
    """A browser shows a fault in place of what is not well-formed."""
    root = ET.parse(picture).getroot()  # noqa: S314 - our own
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    fetched = [each for one in root.iter() for name, each in one.items() if name.endswith("href")]
    assert [each for each in fetched if not each.startswith("#")] == []


def test_a_flame_graph_with_a_name_cut_short_is_well_formed() -> None:
    """Frames such as `<frozen runpy>` have names that are cut to the width of their box, anywhere."""
    sampler = _Sampler()
    sampler._found = {(f"/<frozen {'&' * 40}>.run", "a" * count): count for count in range(1, 60)}
    drawn = ET.fromstring(sampler.drawn("a & b"))  # noqa: S314 - our own
    texts = [one.text or "" for one in drawn.iter() if one.tag.endswith("text")]
    assert "a & b" in texts
