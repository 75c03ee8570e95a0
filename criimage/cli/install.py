"""`criimage install` and `criimage uninstall`: units, manual, completion and dashboards, written out and taken back."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from criimage.cli.config import example_settings
from criimage.shipping.manual import Key, Table
from criimage.shipping.places import Places
from criimage.shipping.record import Record
from criimage.shipping.shipped import shipped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from criimage.shipping.record import Change

__all__ = ["install", "uninstall"]

Command = Any

_TITLE = re.compile(r"#\[(.+)\]")
_KEY = re.compile(r"#(\w+) = (.+)|# (\w+) =")

_FOLDER = click.Path(path_type=Path, file_okay=False)
_OPTIONS = (
    click.option("--unit-dir", type=_FOLDER, help="Where systemd's units go. [default: /etc/systemd/system]"),
    click.option(
        "--prefix",
        type=_FOLDER,
        default=Path("/usr/local"),
        show_default=True,
        help="Where manual, completion and dashboards go, below share.",
    ),
    click.option(
        "--root",
        type=_FOLDER,
        default=Path("/"),
        help="A folder that stands for / when files are written. [default: /]",
    ),
    click.option("--dry-run", is_flag=True, help="Change nothing, only tell what would be."),
)


def _with_places(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.option(
    "--before", multiple=True, metavar="UNIT", help="A unit that starts after criimage, and starts it; repeatable."
)
@_with_places
def install(before: tuple[str, ...], unit_dir: Path | None, prefix: Path, root: Path, dry_run: bool) -> None:
    """Write units, settings, manual, completion and dashboards.

    A file that is there and not as installed is left alone and told. Nothing is started and nothing enabled. What was
    written is in PREFIX/share/criimage/installed.json, and `criimage uninstall` takes it back. Done again, it brings
    everything to what this version has.
    """
    places = _places(unit_dir, prefix, root)
    record = Record.read(places, dry_run=dry_run)
    _tell(record.install(_shipped(places, before)), dry_run=dry_run)
    if not dry_run:
        start = "systemctl daemon-reload && systemctl enable --now criimage"
        click.echo(f"nothing was started; to start it: {start}", err=True)


@click.command()
@_with_places
def uninstall(unit_dir: Path | None, prefix: Path, root: Path, dry_run: bool) -> None:
    """Take back what `criimage install` wrote.

    A file that is not as installed is left alone and told. Nothing is stopped and nothing disabled: do that first.
    """
    places = _places(unit_dir, prefix, root)
    record = Record.read(places, dry_run=dry_run)
    _tell(record.uninstall(_shipped(places, ())), dry_run=dry_run)


def _places(unit_dir: Path | None, prefix: Path, root: Path) -> Places:
    return Places(prefix.absolute(), unit_dir.absolute() if unit_dir else None, root.absolute())


def _shipped(places: Places, before: tuple[str, ...]) -> dict[Path, str]:
    from criimage.cli.main import main

    lines = list(example_settings())
    return shipped(places, main, "\n".join(lines) + "\n", _settings_tables(lines), before)


def _settings_tables(lines: list[str]) -> Iterator[Table]:
    """Read the tables of the settings from the file that has them all."""
    title, meaning = "", ""
    keys: list[Key] = []
    for line in lines:
        if found := _TITLE.fullmatch(line):
            yield Table(title, tuple(keys))
            title, keys, meaning = found[1], [], ""
        elif found := _KEY.fullmatch(line):
            keys.append(Key(found[1] or found[3], found[2] or "", meaning))
            meaning = ""
        else:
            meaning = f"{meaning} {line.removeprefix('# ')}" if line else ""
    yield Table(title, tuple(keys))


def _tell(changes: Iterator[Change], *, dry_run: bool) -> None:
    with contextlib.closing(_made(changes)) as made:
        for change in made:
            if change.act == "kept":
                click.echo(f"kept       {change.path}: its content is not as installed")
            else:
                click.echo(f"{change.act:<10} {change.path}{'  (dry run)' * (dry_run and change.act != 'unchanged')}")


def _made(changes: Iterator[Change]) -> Generator[Change]:
    """Yield the changes as they are made; only what keeps one from being made is an error of theirs."""
    try:
        yield from changes
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror}") from error
