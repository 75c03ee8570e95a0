"""`criimage conformance`: judges any CRI image service."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from criimage.cli.connection import endpoint_option
from criimage.cli.output import printable
from criimage.conformance.behaviour import Need, selected
from criimage.conformance.known import read_known
from criimage.conformance.report.document import document
from criimage.conformance.report.junit import junit
from criimage.conformance.report.page import page
from criimage.conformance.report.text import result_lines, summary_lines
from criimage.conformance.run import CannotRun, Plan, run
from criimage.conformance.supply import RUN_WORD
from criimage.endpoint import socket_path
from criimage.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from criimage.conformance.behaviour import Behaviour
    from criimage.conformance.outcome import Result, Summary

__all__ = ["conformance"]

_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}")
_LINE_LIMIT = 1000
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@endpoint_option
@click.option("--registry", default="", metavar="HOST:PORT", help="Push images there instead of serving them itself.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Try only these: a number, a group or a level; globs.")
@click.option("--skip", multiple=True, metavar="PATTERN", help="Leave these out.")
@click.option("--hostile", is_flag=True, help="Send hostile input to any service. IT MAY END THE SERVICE.")
@click.option("--restart", default="", metavar="COMMAND", help="Restarts the service; then the group restart is tried.")
@click.option("--known", default="", metavar="FILE", help="Known differences: a file, or one that comes with criimage.")
@click.option("--junit", "junit_file", type=_FILE, help="Write a report for CI systems.")
@click.option("--html", "html_file", type=_FILE, help="Write a report as one page.")
@click.option("--json", "json_file", type=_FILE, help="Write a report for programs.")
@click.option("--list", "list_them", is_flag=True, help="Print the behaviours and try none.")
@click.option("--verbose", "-v", is_flag=True, help="Print what passes too.")
def conformance(
    endpoint: str,
    registry: str,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    hostile: bool,
    restart: str,
    known: str,
    junit_file: Path | None,
    html_file: Path | None,
    json_file: Path | None,
    list_them: bool,
    verbose: bool,
) -> None:
    """Judge a CRI image service by what kubelet, crictl and operators need of one.

    Touches only images under names that it makes for this run, and removes them at the end. Exit code 0: all is well or
    a known difference; 1: something failed; 2: it could not be tried.
    """
    behaviours = _chosen(only, skip)
    if list_them:
        _print_list(behaviours)
        return
    _check(registry, restart)
    differences = read_known(known) if known else None
    plan = Plan(
        socket_path(endpoint),
        endpoint,
        behaviours,
        registry,
        hostile,
        restart,
        differences.reasons() if differences else {},
        f"{differences.service} ({differences.seen})" if differences else "",
        _repeated_by(endpoint, registry, only, skip, restart, known, hostile=hostile),
    )
    for file in (junit_file, html_file, json_file):
        _try_writing(file)
    if hostile and any(Need.HOSTILE in one.needs for one in behaviours):
        click.echo("hostile input is sent: it may end the service", err=True)

    def tell(result: Result) -> None:
        lines = list(result_lines(result))
        if verbose and not lines:
            lines = [f"{result.outcome.value} {result.behaviour.number}: {result.behaviour.sentence}"]
        _print(lines)

    try:
        summary = asyncio.run(_run(plan, tell))
    except CannotRun as error:
        raise ConfigurationError("\n".join(map(printable, str(error).splitlines()))) from error
    _print(summary_lines(summary))
    for file, form in ((junit_file, junit), (html_file, page), (json_file, document)):
        if file is not None:
            _write(file, form(summary))
    raise SystemExit(summary.exit_code)


async def _run(plan: Plan, tell: Callable[[Result], None]) -> Summary:
    """Run it until it is told to end: then what was pulled is removed. The second time it ends at once."""
    loop, running = asyncio.get_running_loop(), asyncio.create_task(run(plan, tell))
    told = 0

    def stop() -> None:
        nonlocal told
        told += 1
        if told == 1:
            click.echo("interrupted: what was pulled is removed; once more ends it at once", err=True)
        running.cancel()

    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop)
    try:
        return await running
    except asyncio.CancelledError:
        if told < 2:
            raise ConfigurationError("interrupted before anything was tried") from None
        raise ConfigurationError(
            f"interrupted again: what this run pulled may be there still, under names with {RUN_WORD} in them"
        ) from None


def _chosen(only: Iterable[str], skip: Iterable[str]) -> tuple[Behaviour, ...]:
    """Return what is wanted; a pattern that means nothing is a slip."""
    for option, patterns in (("--only", only), ("--skip", skip)):
        for pattern in patterns:
            if not selected([pattern], ()):
                raise ConfigurationError(f"{option}: {pattern} is no number, group or level: see --list")
    behaviours = selected(only, skip)
    if not behaviours:
        raise ConfigurationError("no behaviour is selected: --skip leaves out all that --only means")
    return behaviours


def _repeated_by(
    endpoint: str, registry: str, only: Iterable[str], skip: Iterable[str], restart: str, known: str, *, hostile: bool
) -> str:
    given = [("--endpoint", endpoint), ("--registry", registry), *(("--only", one) for one in only)]
    given += [*(("--skip", one) for one in skip), ("--restart", restart), ("--known", known)]
    words = [word for option, value in given if value for word in (option, value)]
    return shlex.join(["criimage", "conformance", *words, *(["--hostile"] if hostile else [])])


def _check(registry: str, restart: str) -> None:
    """Refuse what would be found out only in the middle of a run."""
    if registry and not _HOST_AND_PORT.fullmatch(registry):
        raise ConfigurationError(f"--registry: HOST:PORT is wanted, not {registry}")
    try:
        shlex.split(restart)
    except ValueError as error:
        raise ConfigurationError(f"--restart: {str(error).lower()}") from error


def _print(lines: Iterable[str]) -> None:
    for line in map(printable, lines):
        # A list of many images fills a screen; reports have all of it.
        click.echo(line if len(line) <= _LINE_LIMIT else f"{line[:_LINE_LIMIT]}… {len(line)} characters")


def _print_list(behaviours: Iterable[Behaviour]) -> None:
    for one in behaviours:
        click.echo(f"{one.number:4} {one.group:12} {one.level.value:9} {one.sentence}")


def _try_writing(file: Path | None) -> None:
    """Find out before four minutes have gone by; a report of before stays until there is a new one."""
    if file is None:
        return
    try:
        try:
            with file.open("xb"):
                pass
            file.unlink()
        except FileExistsError:
            with file.open("ab"):
                pass
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error


def _write(file: Path, report: bytes) -> None:
    try:
        file.write_bytes(report)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
