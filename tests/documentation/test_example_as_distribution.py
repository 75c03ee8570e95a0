"""Claims: the page's commands make the example a distribution that both suites judge, in an environment of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from documentation.pages import DOCS, PROJECT, page
from documentation.typed_blocks import blocks_for

if TYPE_CHECKING:
    from pathlib import Path

PAGE = page("writing-a-backend")


def block(language: str, beginning: str) -> str:
    """The page's block of code that begins so."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if text.startswith(beginning)]
    assert len(found) == 1, (language, beginning)
    return str(found[0])


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """Installed, listed, served, judged by both suites, and put at the top of the scale, as written there."""
    shutil.copytree(DOCS / "examples" / "criimage_folder", tmp_path / "criimage_folder")
    (tmp_path / "pyproject.toml").write_text(block("toml", "# pyproject.toml"))
    (tmp_path / "test_contract.py").write_text(block("python", "# test_contract.py"))
    serve, restart, commands = blocks_for("test_the_commands_of_the_page", "docs/writing-a-backend")
    (tmp_path / "serve.sh").write_text(serve)
    (tmp_path / "restart.sh").write_text(restart)
    # A copy of what git has, for a build leaves files behind.
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)

    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "VIRTUAL_ENV"))}
    ended = subprocess.run(
        ["bash", "-eux", "-c", commands],
        cwd=tmp_path,
        env=environment | {"CLONE": str(clone)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert re.search(r"^folder +criimage-folder +1", ended.stdout, re.MULTILINE), ended.stdout
    assert re.search(r"\d+ passed, \d+ skipped", ended.stdout), ended.stdout[-3000:]
    assert re.search(r"^1[0-9][0-9] passed, 0 failed, 0 known, 0 not applicable$", ended.stdout, re.MULTILINE)
    assert ended.stdout.splitlines()[-1] == "folder: exemplary, 20 of 20 rules"
