"""Runs `criimage` as a person or a script does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from criimage.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = [str(Path(sys.executable).with_name("criimage"))]
SECONDS = 30.0


def run(
    *arguments: str, given: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        arguments: of the command line.
        given: on its standard input.
        environment: variables on top of this process's own.
    """
    return subprocess.run(
        [*COMMAND, *arguments],
        input=given,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def at_once(*arguments: str) -> str:
    """Run a command that must succeed in this very process, which takes a tenth of the time; return its output."""
    ended = CliRunner().invoke(main, arguments, prog_name="criimage", catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def succeed(*arguments: str, given: str = "") -> str:
    """Run a command that must succeed and say nothing on standard error; return its output."""
    ended = run(*arguments, given=given)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def document(*arguments: str, given: str = "") -> Any:  # noqa: ANN401 - any JSON
    """Run a command with `--output json` that must succeed, and return its one document."""
    return json.loads(succeed(*arguments, "--output", "json", given=given))


def fail(*arguments: str, code: int, given: str = "") -> str:
    """Run a command that must fail with this exit code; return its one line of error, without `Error: `."""
    ended = run(*arguments, given=given)
    assert ended.returncode == code, ended
    *usage, line = ended.stderr.splitlines()
    assert line.startswith("Error: "), ended.stderr
    assert all(text.startswith(("Usage: ", "Try ")) or not text for text in usage), ended.stderr
    return line.removeprefix("Error: ")
