"""The command itself: help, version, completion, exit codes, and what it costs to start."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from cli.command import COMMAND, fail, run, succeed
from criimage.cli import main
from criimage.cli.main import _COMMANDS
from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    """Every command and subcommand."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield (*above, name)
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


EVERY = list(commands(main))


def test_the_version_is_the_distributions() -> None:
    """Design section 7."""
    assert succeed("--version") == f"criimage {version('criimage')}\n"


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_explains_itself(command: tuple[str, ...], option: str) -> None:
    """Design section 7: -h and --help of every command say what it is for and what each option means."""
    usage, _, first = succeed(*command, option).splitlines()[:3]

    assert usage.startswith(f"Usage: criimage {' '.join(command)}")
    assert first.strip().endswith((".", ":", ",")) or len(first) > 40


@pytest.mark.parametrize("command", [(), *EVERY], ids=lambda words: " ".join(words) or "criimage")
def test_no_help_is_cut_short_or_leaves_an_option_out(command: tuple[str, ...]) -> None:
    """At 80 columns each summary of a subcommand is whole, and each option is explained (issue 14, first screens)."""
    context: click.Context = click.Context(main, terminal_width=80)
    found: click.Command | None = main
    for name in command:
        assert isinstance(found, click.Group)
        found = found.get_command(context, name)
    assert found is not None
    _, _, shown = found.get_help(click.Context(found, terminal_width=80)).partition("\n")
    assert not [line for line in shown.splitlines() if line.endswith("...")], shown
    assert [one.opts for one in found.params if isinstance(one, click.Option) and not one.help] == []


def test_help_lists_what_there_is_in_its_own_words() -> None:
    """What `--help` says of a command without importing it fits that command, and the names are design section 7's."""
    listed = succeed("--help")

    assert set(_COMMANDS) >= {
        *(
            "serve",
            "images",
            "pull",
            "inspect",
            "rmi",
            "fsinfo",
            "pulls",
            "version",
            "config",
            "backends",
            "completion",
        ),
    }
    for name, (_, summary) in _COMMANDS.items():
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.help
        assert summary in listed
        assert summary.split()[0] == command.help.split()[0], name


@pytest.mark.parametrize("words", ["--help", "--version", "pulls --help", "backends", "config default"])
def test_an_output_that_cannot_be_written_is_one_line(words: str) -> None:
    """Exit code 1, no traceback, and no complaint of the interpreter at its end."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*COMMAND, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


def test_a_reader_that_has_gone_is_no_error_to_tell() -> None:
    """As with every tool in a pipe: silence."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*COMMAND, "config", "default"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """Design section 7: for the three shells that operators use."""
    script = succeed("completion", shell)

    assert "_CRIIMAGE_COMPLETE" in script
    assert "criimage" in script


@pytest.mark.engine
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_can_read_its_script(shell: str) -> None:
    """Without a word, as it would when it starts."""
    need(shell)
    checked = subprocess.run(
        [shell, "-n"], input=succeed("completion", shell), capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_another_shell_is_a_usage_error() -> None:
    """Exit code 2, with the shells there are."""
    assert "'bash', 'zsh', 'fish'" in fail("completion", "tcsh", code=2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("criimage ver", ["version"]),
        ("criimage pul", ["pull", "pulls"]),
        ("criimage config d", ["default", "dump"]),
        ("criimage --ver", ["--version"]),
        ("criimage images --output ", ["table", "json"]),
        ("criimage serve --backend con", ["containers-storage"]),
        ("criimage config check --backend mem", ["memory"]),
    ],
)
def test_words_are_completed(words: str, expected: list[str]) -> None:
    """Commands, their subcommands, options, choices, and backends that are installed (issue 14, A7)."""
    environment = {
        "_CRIIMAGE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }

    completed = run(environment=environment).stdout.splitlines()

    assert [line.partition(",")[2] for line in completed] == expected


@pytest.mark.parametrize(
    ("word", "told"),
    [("imges", "No such command 'imges'. Did you mean 'images'?"), ("zzzzzz", "No such command 'zzzzzz'.")],
)
def test_a_misspelt_command_is_told_with_what_is_meant(word: str, told: str) -> None:
    """As it is of options: the nearest one is named, and none where none is near."""
    ended = run(word)

    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (2, f"Error: {told}")


@pytest.mark.parametrize("arguments", [["nosuch"], ["images", "--nosuch"], ["inspect"], ["pull"], ["config", "nosuch"]])
def test_a_usage_error_has_its_own_code(arguments: list[str]) -> None:
    """Design section 7: 2, and one line that says what is wrong."""
    fail(*arguments, code=2)


HEAVY = ("pydantic", "prometheus_client", "google", "rich", "structlog", "criimage.server", "criimage.settings")


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], (*HEAVY, "grpclib", "betterproto", "asyncio")),
        (["--version"], (*HEAVY, "grpclib", "betterproto", "asyncio")),
        (["completion", "bash"], (*HEAVY, "grpclib", "betterproto")),
        (["images"], HEAVY),
        (["pull", "-q", "x"], HEAVY),
        (["inspect", "x"], HEAVY),
        (["rmi", "x"], HEAVY),
        (["fsinfo"], HEAVY),
        (["version"], HEAVY),
        (["pulls"], HEAVY),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_client_command_does_not_import_the_server(
    tmp_path: Path, arguments: list[str], unwanted: tuple[str, ...]
) -> None:
    """A command that asks one question starts without settings, server and metrics, by far the most of the code."""
    code = (
        "import sys\nfrom criimage.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"sys.exit(repr([name for name in sys.modules if name.startswith({unwanted!r})]))"
    )
    environment = {**os.environ, "CRIIMAGE_ENDPOINT": f"unix://{tmp_path}/none.sock"}

    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )

    assert ended.stderr.splitlines()[-1] == "[]"
