"""`criimage removals`: what is being removed now, and the way to end it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from criimage.cli import completing, output
from criimage.cli.connection import ask, client_options, given_before, talk_to
from criimage.cri.criimage.v1 import (
    CancelRemovalRequest,
    CancelRemovalResponse,
    ListRemovalsRequest,
    ListRemovalsResponse,
    Removal,
)

if TYPE_CHECKING:
    from criimage.channel import Channel

__all__ = ["removals"]

_SERVICE = "criimage.v1.RemovalService"


@click.group(invoke_without_command=True)
@client_options
@click.pass_context
def removals(context: click.Context, endpoint: str, form: str) -> None:
    """Show the removals that run, and what each waits for."""
    if context.invoked_subcommand is None:
        talk_to(endpoint, lambda channel: _list(channel, form))


@removals.command()
@click.argument("removal_id", metavar="ID", shell_complete=completing.removals)
@client_options
@click.pass_context
def cancel(context: click.Context, removal_id: str, endpoint: str, form: str) -> None:
    """Stop a removal; whoever waits for it is told so.

    They are told what has become of the image, too.
    """
    endpoint, form = given_before(context, "endpoint", endpoint), given_before(context, "form", form)

    async def talk(channel: Channel) -> None:
        request = CancelRemovalRequest(id=removal_id)
        await ask(channel, "CancelRemoval", request, CancelRemovalResponse, service=_SERVICE)
        if form == "json":
            output.document({"cancelled": removal_id})
        else:
            click.echo(f"Cancelled: {removal_id}")

    talk_to(endpoint, talk)


async def _list(channel: Channel, form: str) -> None:
    reply = await ask(channel, "ListRemovals", ListRemovalsRequest(), ListRemovalsResponse, service=_SERVICE)
    if form == "json":
        output.document({"removals": [_fields(removal) for removal in reply.removals]})
    elif reply.removals:
        now = time.time()
        output.table(("ID", "IMAGE", "TIME", "STATE"), [_row(removal, now) for removal in reply.removals])
    else:
        click.echo("No removals are running.")


def _row(removal: Removal, now: float) -> tuple[str, ...]:
    state = f"waits for {removal.waiting_for}"
    seconds = max(0, round(now - removal.started / 1e9))
    return (
        removal.id,
        output.printable(removal.image),
        f"{seconds}s",
        output.printable(f"stopping, {state}" if removal.stopping else state),
    )


def _fields(removal: Removal) -> dict[str, Any]:
    return {
        "id": removal.id,
        "image": removal.image,
        "image_id": removal.image_id,
        "waiting_for": removal.waiting_for,
        "stopping": removal.stopping,
        "started": removal.started / 1e9,
        "waiters": removal.waiters,
    }
