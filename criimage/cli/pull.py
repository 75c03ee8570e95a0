"""`criimage pull`: pulls an image and shows how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import click

from criimage.cli import output
from criimage.cli.connection import ask, client_options, talk_to, watch_pulls
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from criimage.channel import Channel
    from criimage.cli.progress import Display

__all__ = ["pull"]


@click.command()
@click.argument("reference")
@click.option("--username", "-u", help="User name for the registry; the password is asked for.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@client_options
def pull(reference: str, username: str | None, password_stdin: bool, quiet: bool, endpoint: str, form: str) -> None:
    """Pull the image REFERENCE and print what identifies it.

    Progress goes to standard error: a bar on a terminal, plain lines elsewhere.
    """
    auth = _credentials(username, password_stdin=password_stdin)

    async def talk(channel: Channel) -> None:
        request = v1.PullImageRequest(image=v1.ImageSpec(image=reference))
        if auth is not None:
            request.auth = auth
        showing = None if quiet or form == "json" else asyncio.create_task(_show(channel, reference))
        try:
            pulled = await ask(channel, "PullImage", request, v1.PullImageResponse, seconds=None)
        finally:
            if showing is not None:
                showing.cancel()
                with contextlib.suppress(asyncio.CancelledError, click.ClickException):
                    await showing
        if form == "json":
            output.document({"image_ref": pulled.image_ref})
        else:
            click.echo(pulled.image_ref)

    talk_to(endpoint, talk)


async def _show(channel: Channel, reference: str) -> None:
    # Imported here: rich takes longer to load than the pull of an image that is there.
    from criimage.cli.progress import display

    shown: Display
    with display(sys.stderr) as shown:
        async for pulls in watch_pulls(channel):
            shown.update([pull for pull in pulls if pull.reference == reference])


def _credentials(username: str | None, *, password_stdin: bool) -> v1.AuthConfig | None:
    if username is None:
        if password_stdin:
            raise click.UsageError("--password-stdin needs --username")
        return None
    if not password_stdin and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for the password at: use --password-stdin")
    # Never an option: whoever lists the processes would read it.
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else click.prompt("Password", hide_input=True)
    return v1.AuthConfig(username=username, password=password)
