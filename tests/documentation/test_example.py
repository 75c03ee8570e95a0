"""Claims: the example of a backend on the page is a backend, and does what the page says."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from criimage.backend import Backend, PullContext
from criimage.errors import RemoteImageMissing
from criimage.reference import Lookup, Name, Pattern
from documentation.pages import DOCS, code, page, rows, sections

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def example() -> Any:  # noqa: ANN401 - a module
    spec = importlib.util.spec_from_file_location("criimage_folder", DOCS / "examples" / "criimage_folder.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["criimage_folder"] = module
    spec.loader.exec_module(module)
    return module


async def test_it_lists_finds_pulls_and_removes(example: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """Archives in the folder are images; the list is the same until one is removed; odd files disturb nobody."""
    (tmp_path / "web.tar").write_bytes(b"12345")
    (tmp_path / "NOT A NAME.tar").touch()
    settings = example.plugin.settings_model(path=tmp_path)
    async with example.plugin.open(settings) as backend:
        assert isinstance(backend, Backend)
        assert await backend.check() == ()
        (image,) = await backend.images()
        assert await backend.images() is await backend.images()
        assert image.size == 5
        (reference,) = await backend.resolve(Name.parse("web"))
        assert str(reference) == "folder.local/web:latest"
        assert await backend.pull(reference, None, PullContext(), lambda _: None) == image
        for text in ("web", "folder.local/web:latest", str(image.id), image.id.hex[:12]):
            details = await backend.status(Lookup.parse(text))
            assert details is not None
            assert details.image == image
            assert await backend.images(Pattern.parse(text)) == (image,)
        assert (await backend.usage()).images[0].used_bytes == 5
        await backend.remove(Lookup.parse("web"))
        await backend.remove(Lookup.parse("web"))
        assert await backend.images() == ()
        with pytest.raises(RemoteImageMissing):
            await backend.pull(reference, None, PullContext(), lambda _: None)


def test_the_page_names_every_call_of_the_contract() -> None:
    """The table of calls is the protocol's."""
    named = {code(row[0])[0].partition("(")[0] for row in rows(sections(page("writing-a-backend"))["The calls"])}
    assert named == {name for name in vars(Backend) if not name.startswith("_")}
