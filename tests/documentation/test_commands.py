"""Claims: the page on the command line has every command, argument and option there is, and no other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest

from criimage.cli import main
from documentation.pages import DOCS, PROJECT, code, definitions, page, sections

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTIONS = sections(page("reference/command-line"))
ALIKE = {"criimage config dump", "criimage config check"}
"""They take the options of `criimage serve`, and the page says so."""


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for part in group.list_commands(context):
        command = group.get_command(context, part)
        assert command is not None
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield f"{name} {part}", command
            yield from commands(command, f"{name} {part}")
        else:
            yield f"{name} {part}", command


COMMANDS = dict(commands(main, "criimage"))


def options(command: click.Command) -> set[str]:
    found = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {name for option in found for name in (*option.opts, *option.secondary_opts)}


def documented(section: str) -> set[str]:
    return {term.split()[0] for term in definitions(section)}


def shared(command: click.Command) -> set[str]:
    return documented(SECTIONS["Client commands"]) if {"--endpoint", "--output"} <= options(command) else set()


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    """Sections named `criimage …` are the commands that exist."""
    assert {title for title in SECTIONS if title.startswith("criimage ")} == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    """The options of a section, with those of all client commands, are the command's."""
    if name in ALIKE:
        assert options(COMMANDS[name]) == options(COMMANDS["criimage serve"])
        assert "Takes the options of `criimage serve`" in " ".join(SECTIONS[name].split())
    else:
        assert documented(SECTIONS[name]) | shared(COMMANDS[name]) == options(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_synopsis_is_the_commands_own(name: str) -> None:
    """The line of usage is the one that `--help` prints."""
    command = COMMANDS[name]
    if isinstance(command, click.Group):
        wanted = f"{name} [OPTIONS]"
    else:
        # Only what takes nothing else but --help is shown without OPTIONS.
        pieces = [piece for piece in command.collect_usage_pieces(click.Context(command)) if piece != "[OPTIONS]"]
        wanted = " ".join([name, *(["[OPTIONS]"] if options(command) else []), *pieces])
    shown = re.findall(r"^```\n(.+)\n```$", SECTIONS[name], re.MULTILINE)
    assert shown[0].replace("SHELL", "{bash|zsh|fish}") == wanted


def test_every_command_in_the_guides_exists() -> None:
    """What the guides tell to type at a prompt begins with a command that exists."""
    names = {name.removeprefix("criimage ") for name in COMMANDS} | {"config"}
    for file in (*(DOCS / "guide").glob("*.md"), *(DOCS / "tutorials").glob("*.md")):
        text = file.read_text("utf-8")
        for typed in (*code(text), *re.findall(r"^\$ (criimage .*)$", text, re.MULTILINE)):
            words = typed.split()
            if words[:1] == ["criimage"] and len(words) > 1 and not words[1].startswith("-"):
                assert words[1] in names, typed


def test_every_file_of_known_differences_is_named() -> None:
    """Those that come with criimage are told where the option is."""
    there = {file.stem for file in (PROJECT / "criimage" / "conformance" / "known").glob("*.toml")}
    text = definitions(sections(page("reference/command-line"))["criimage conformance"])["--known FILE"]
    assert set(code(text)) == there
