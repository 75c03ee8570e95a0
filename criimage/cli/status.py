"""`criimage status`: whether the service can do its work, and what it runs on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from criimage.cli import output
from criimage.cli.connection import ask, client_options, talk_to
from criimage.cri.criimage.v1 import GetStatusRequest, GetStatusResponse

if TYPE_CHECKING:
    from criimage.channel import Channel

__all__ = ["status"]

_SERVICE = "criimage.v1.StatusService"


@click.command()
@client_options
def status(endpoint: str, form: str) -> None:
    """Show whether the service can do its work; exit code 1 if it cannot."""

    async def show(channel: Channel) -> bool:
        reply = await ask(channel, "GetStatus", GetStatusRequest(), GetStatusResponse, service=_SERVICE)
        if form == "json":
            output.document(_document(reply))
        else:
            _print(reply)
        return reply.serving

    serving = True

    async def talk(channel: Channel) -> None:
        nonlocal serving
        serving = await show(channel)

    talk_to(endpoint, talk)
    if not serving:
        raise click.exceptions.Exit(1)


def _document(reply: GetStatusResponse) -> dict[str, object]:
    problems = [{"source": each.source, "text": each.text, "remedy": each.remedy} for each in reply.problems]
    return {
        "serving": reply.serving,
        "version": reply.version,
        "backend": reply.backend,
        "runtime": reply.runtime,
        "problems": problems,
        "settings": json.loads(reply.settings or "{}"),
    }


def _print(reply: GetStatusResponse) -> None:
    settings = json.loads(reply.settings or "{}")
    rows = {
        "health": "serving" if reply.serving else "not serving",
        "version": reply.version,
        "backend": reply.backend,
        "runtime": reply.runtime or "none: image service only",
        "listen": str(settings.get("listen", "")),
    }
    for name, value in rows.items():
        click.echo(f"{name + ':':10}{output.printable(value)}")
    for each in reply.problems:
        click.echo(f"problem:  {output.printable(f'{each.source}: {each.text} ({each.remedy})')}")
