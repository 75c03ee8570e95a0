"""Claims: the manual has every command, option and key, and `man` shows it without a complaint."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from criimage.cli import main
from criimage.shipping.roff import Page
from documentation.test_commands import COMMANDS, options
from parts.missing import need

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO")


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation's pages."""
    root = tmp_path_factory.mktemp("installed")
    result = CliRunner().invoke(main, ["install", "--root", str(root)])
    assert result.exit_code == 0, result.output
    return root / "usr/local/share/man"


def shown(page: Path) -> str:
    """What a reader sees, on one long line each."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "900", "MAN_KEEP_FORMATTING": "", "PAGER": "cat"}
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.engine
def test_every_page_is_clean(manual: Path) -> None:
    """Neither groff nor mandoc finds anything: no unknown macro, no text lost, no empty section."""
    need("man", "mandoc")
    pages = sorted(manual.rglob("*.?"))
    assert len(pages) == len({name.replace(" ", "-") for name in COMMANDS} | {"criimage", "criimage-config", "toml"})
    for page in pages:
        shown(page)
    linted = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True, check=False
    )
    # The same version gives the same page, whenever it is made.
    assert [line for line in linted.stdout.splitlines() if "missing date" not in line] == []


@pytest.mark.engine
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "criimage completion"])
def test_a_commands_page_has_every_option(manual: Path, name: str) -> None:
    """Each option, the words of `--help` and the sections that every page has are there to read."""
    need("man")
    text = shown(manual / "man8" / f"{name.replace(' ', '-')}.8")
    for option in options(COMMANDS[name]):
        assert option in text
    described = " ".join((COMMANDS[name].help or "").split("\n\n")[0].split())
    assert described.replace("`", "") in " ".join(text.split())
    assert all(
        f"\n{section}\n" in text for section in ("SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO")
    )


@pytest.mark.engine
@pytest.mark.parametrize("name", COMMANDS)
def test_names_in_a_pages_first_line_are_as_everywhere(manual: Path, name: str) -> None:
    """CRI, SIGTERM and the command's arguments are not written small, which `apropos` would show."""
    need("man")
    text = shown(manual / "man8" / f"{name.replace(' ', '-')}.8")
    first = text.partition("\nNAME\n")[2].splitlines()[0].partition(" - ")[2]
    assert first
    assert first[1:] in " ".join(text.partition("\nDESCRIPTION\n")[2].split())
    assert first[0].islower()


@pytest.mark.engine
def test_the_servers_page_has_what_the_server_takes(manual: Path) -> None:
    """A page that is opened alone has signals, what systemd sets, the socket and what a status means there."""
    need("man")
    serve, judge = (shown(manual / "man8" / f"criimage-{name}.8") for name in ("serve", "conformance"))
    assert all(name in serve for name in ("SIGHUP", "NOTIFY_SOCKET", "JOURNAL_STREAM", "/run/criimage/criimage.sock"))
    assert "grafana" not in serve
    assert "known difference" in judge.partition("EXIT STATUS")[2]
    assert "settings" not in judge.partition("EXIT STATUS")[2]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("serve", ["ended by SIGTERM", "cannot serve"]),
        ("status", ["can do its work", "standard output has its problems"]),
        ("config-check", ["can be used", "something is missing"]),
        ("conformance", ["known difference", "something failed", "could not be tried"]),
        ("pulls", ["Ctrl-C"]),
    ],
)
def test_a_page_has_its_commands_own_exit_codes(manual: Path, name: str, codes: list[str]) -> None:
    """As the reference tells them, and nothing of another command's."""
    need("man")
    text = shown(manual / "man8" / f"criimage-{name}.8")
    status = text.partition("\nEXIT STATUS\n")[2].partition("\nSEE ALSO\n")[0]
    assert all(code in status for code in codes), status
    assert name == "serve" or "SIGTERM" not in status


@pytest.mark.engine
def test_the_first_page_leads_to_all_others(manual: Path) -> None:
    """criimage(8) has all sections, names every variable that it reads, and every page that there is."""
    need("man")
    text = shown(manual / "man8" / "criimage.8")
    assert all(f"\n{section}\n" in text for section in SECTIONS)
    see_also = text.partition("SEE ALSO")[2]
    for page in manual.rglob("*.?"):
        assert page.name == "criimage.8" or f"{page.stem}({page.suffix[1:]})" in see_also
    assert "CRIIMAGE_CONFIG" in text
    assert "CRIIMAGE_ENDPOINT" in text


@pytest.mark.engine
def test_the_page_of_settings_has_every_key(manual: Path) -> None:
    """criimage.toml(5) shows what `config default` prints: each table, and each key with its default."""
    need("man")
    text = " ".join(shown(manual / "man5" / "criimage.toml.5").split())
    default = CliRunner().invoke(main, ["config", "default"]).stdout
    lines = [line.removeprefix("#") for line in default.splitlines() if line.startswith("#") and line[1:2] != " "]
    assert len(lines) > 40
    for line in lines:
        assert " ".join(line.split()) in text, line


def test_no_text_is_taken_for_roff() -> None:
    """What begins with a dot or a quote, or has backslashes, is printed and not obeyed."""
    page = Page("x", 8, "y", "1")
    page.paragraphs(".so /etc/passwd\n\n'br\n\nC:\\fBbold\\fR `--a-b`")
    assert page.text().splitlines()[-5:] == [
        "\\&.so /etc/passwd",
        ".PP",
        "\\&\\(aqbr",
        ".PP",
        "C:\\efBbold\\efR \\fB\\-\\-a\\-b\\fR",
    ]
