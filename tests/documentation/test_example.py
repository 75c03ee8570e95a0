"""Claims: the example of a backend on the page is a backend and keeps the contract."""

from __future__ import annotations

import ast
import importlib.util
import io
import sys
import tokenize
from typing import TYPE_CHECKING, Any

import pytest

from criimage.backend import Backend, PullContext
from criimage.errors import ContentInvalid
from criimage.reference import Reference
from criimage.testing.conformance import BackendConformance, Capability
from criimage.testing.oci import image as made_image
from criimage.testing.oci import index
from criimage.testing.scripted_registry import scripted_registry
from criimage.testing.scripted_stand import ScriptedStandRegistry, scripted_stand
from documentation.pages import DOCS, code, page, rows, sections

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


EXAMPLE_FILE = DOCS / "examples" / "criimage_folder" / "__init__.py"


def _example() -> Any:  # noqa: ANN401 - a module
    spec = importlib.util.spec_from_file_location("criimage_folder", EXAMPLE_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["criimage_folder"] = module
    spec.loader.exec_module(module)
    return module


EXAMPLE = _example()


class TestTheExample(BackendConformance):
    """It keeps every behaviour of the contract that a folder can have."""

    capabilities = Capability.EXPECTED

    @pytest.fixture
    def registry(self) -> Iterator[ScriptedStandRegistry]:
        """The registry that comes with the suite."""
        with scripted_stand() as registry:
            yield registry

    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Backend]]:
        """Opens it on a folder of the test."""
        settings = EXAMPLE.plugin.settings_model(path=tmp_path, registry="127.0.0.1:0")
        return lambda: EXAMPLE.plugin.open(settings)

    @pytest.fixture
    def leftovers(self, tmp_path: Path) -> Callable[[], Awaitable[Sequence[str]]]:
        """Blobs without an image."""

        async def left() -> Sequence[str]:
            return [file.name for file in (tmp_path / "blobs" / "sha256").iterdir()]

        return left


async def test_what_it_has_is_an_image_layout(tmp_path: Path) -> None:
    """IDs, digests and sizes come from the layout: of an index the index's digest and the instance's."""
    one = made_image()
    both = index(one)
    with scripted_registry() as hub:
        name = hub.put(both, "team/app", "1")
        async with EXAMPLE.plugin.open(EXAMPLE.plugin.settings_model(path=tmp_path, registry=hub.address)) as backend:
            pulled = await backend.pull(Reference.parse(name), None, PullContext(), lambda _: None)
            assert str(pulled.id) == one.id
            assert [digest.digest for digest in pulled.digests] == [both.digest, one.digest]
            assert pulled.size == one.config.size + sum(len(part.data) for part in one.layers)

    assert (tmp_path / "oci-layout").is_file()
    assert (tmp_path / "blobs" / both.digest.replace(":", "/")).read_bytes() == both.manifest.data


async def test_a_damaged_layout_is_told(tmp_path: Path) -> None:
    """A blob that was changed on the disk is not taken for the image."""
    with scripted_registry() as hub:
        name = hub.put(made_image(), "team/app", "1")
        settings = EXAMPLE.plugin.settings_model(path=tmp_path, registry=hub.address)
        async with EXAMPLE.plugin.open(settings) as backend:
            image = await backend.pull(Reference.parse(name), None, PullContext(), lambda _: None)
        (tmp_path / "blobs" / "sha256" / image.id.hex).write_bytes(b"{}")

        with pytest.raises(ContentInvalid):
            async with EXAMPLE.plugin.open(settings):
                pass


def test_it_has_about_a_hundred_lines() -> None:
    """As the page says; neither blank lines, comments nor docstrings count."""
    source = EXAMPLE_FILE.read_text()
    told: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told.update(range(node.lineno, (node.end_lineno or 0) + 1))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            used.update(range(token.start[0], token.end[0] + 1))

    assert 80 < len(used - told) < 110


def test_the_page_names_every_call_of_the_contract() -> None:
    """The table of calls is the protocol's."""
    named = {code(row[0])[0].partition("(")[0] for row in rows(sections(page("writing-a-backend"))["The calls"])}
    assert named == {name for name in vars(Backend) if not name.startswith("_")}
