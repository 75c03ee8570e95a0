"""Claims: what reference pages take from the code has all there is, and is on the page."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from criimage.cli import main
from criimage.metrics import PrometheusMetrics, error_kinds
from documentation.pages import DOCS, page
from documentation.test_commands import COMMANDS, options

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the pages take it from."""
    spec = importlib.util.spec_from_file_location("from_code", DOCS / "from_code.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("from-code")
    module.write(folder)
    return folder


def test_the_file_of_settings_is_the_one_that_is_printed(written: Path) -> None:
    """Every key of every backend that comes along, as `config default` has it."""
    assert (written / "settings.toml").read_text() == CliRunner().invoke(main, ["config", "default"]).stdout


def test_every_command_and_option_is_in_the_helps(written: Path) -> None:
    """The groups too."""
    text = (written / "help.txt").read_text()
    assert "-h, --help" in text
    for name, command in COMMANDS.items():
        help_of = text.partition(f"$ {name} --help\n")[2].partition("\n$ ")[0]
        assert help_of.startswith(f"Usage: {name}"), name
        assert all(option in help_of for option in options(command)), name


def test_every_series_and_kind_is_there(written: Path) -> None:
    """With its type, and with the code that a client sees."""
    series = (written / "metrics.txt").read_text()
    for family in PrometheusMetrics("memory", ["Version"], ["internal"]).registry.collect():
        assert f"({family.type})\n    {family.documentation}\n" in series
    kinds = {line.split()[0]: line.split()[1] for line in (written / "errors.txt").read_text().splitlines()}
    assert kinds.keys() == set(error_kinds())
    assert (kinds["in_use"], kinds["rate_limited"]) == ("FAILED_PRECONDITION", "UNKNOWN")


def test_each_is_on_its_page(written: Path) -> None:
    """None is made for nobody, and no page takes one that is not made."""
    pages = {"settings.toml": "settings", "help.txt": "command-line", "metrics.txt": "metrics", "errors.txt": "errors"}
    assert {file.name for file in written.iterdir()} == set(pages)
    for name, where in pages.items():
        assert f"{{literalinclude}} ../_build/from_code/{name}\n" in page(f"reference/{where}")
