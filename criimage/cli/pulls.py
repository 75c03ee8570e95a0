"""`criimage pulls`: what is being pulled now, and the way to end it."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from criimage.cli import completing, output
from criimage.cli.connection import ask, client_options, given_before, talk_to, watch_pulls
from criimage.cri.criimage.v1 import (
    CancelPullRequest,
    CancelPullResponse,
    ListPullsRequest,
    ListPullsResponse,
    Pull,
    PullPhase,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from criimage.channel import Channel

__all__ = ["pulls"]

_SERVICE = "criimage.v1.PullService"
_FILE_WIDTH = 240
"""Columns where there is no terminal: a script wants whole names."""


@click.group(invoke_without_command=True)
@click.option("--watch", "-w", is_flag=True, help="Go on showing them until interrupted.")
@client_options
@click.pass_context
def pulls(context: click.Context, watch: bool, endpoint: str, form: str) -> None:
    """Show the pulls that run or wait for their turn."""
    if context.invoked_subcommand is not None:
        return
    if not watch:
        talk_to(endpoint, lambda channel: _list(channel, form))
        return
    # A watch goes on until the person who watches ends it, so that end is the one that was asked for.
    with contextlib.suppress(KeyboardInterrupt):
        talk_to(endpoint, lambda channel: _watch(channel, form))


@pulls.command()
@click.argument("pull_id", metavar="ID", shell_complete=completing.pulls)
@client_options
@click.pass_context
def cancel(context: click.Context, pull_id: str, endpoint: str, form: str) -> None:
    """End the pull ID; whoever waits for it is told so."""
    endpoint, form = given_before(context, "endpoint", endpoint), given_before(context, "form", form)

    async def talk(channel: Channel) -> None:
        await ask(channel, "CancelPull", CancelPullRequest(id=pull_id), CancelPullResponse, service=_SERVICE)
        if form == "json":
            output.document({"cancelled": pull_id})
        else:
            click.echo(f"Cancelled: {pull_id}")

    talk_to(endpoint, talk)


async def _list(channel: Channel, form: str) -> None:
    found = (await ask(channel, "ListPulls", ListPullsRequest(), ListPullsResponse, service=_SERVICE)).pulls
    if form == "json":
        output.document(_document(found))
        return
    from rich.console import Console

    from criimage.cli.progress import pulls_table

    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(pulls_table(found))


async def _watch(channel: Channel, form: str) -> None:
    if form == "json":
        async for found in watch_pulls(channel):
            click.echo(json.dumps(_document(found)))
    else:
        from criimage.cli.progress import NO_PULLS, display

        with display(sys.stdout, nothing=NO_PULLS) as shown:
            async for found in watch_pulls(channel):
                shown.update(found)
    raise click.ClickException("the watch has ended: the service is stopping, or is none that can show its pulls")


def _document(found: Sequence[Pull]) -> dict[str, Any]:
    return {"pulls": [_fields(pull) for pull in found]}


def _fields(pull: Pull) -> dict[str, Any]:
    return {
        "id": pull.id,
        "reference": pull.reference,
        "resolved": pull.resolved,
        "phase": (PullPhase(pull.phase).name or "unknown").lower().replace("_", "-"),
        "bytes_done": pull.bytes_done,
        "bytes_total": pull.bytes_total,
        "bytes_per_second": pull.bytes_per_second,
        "layers_done": pull.layers_done,
        "layers_total": pull.layers_total,
        "layers_reused": pull.layers_reused,
        "started": pull.started / 1e9,
        "waiters": [waiter.pod for waiter in pull.waiters if waiter.pod],
    }
