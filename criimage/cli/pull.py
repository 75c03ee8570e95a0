"""`criimage pull`: pulls an image and shows how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import click

from criimage.cli import completing, output
from criimage.cli.connection import ask, client_options, talk_to, watch_pulls
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.channel import Channel

__all__ = ["pull"]

_LAST_WORD_SECONDS = 0.5


@click.command()
@click.argument("reference", shell_complete=completing.images)
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
        async with _shown(channel, reference, quiet=quiet or form == "json"):
            pulled = await ask(channel, "PullImage", request, v1.PullImageResponse, seconds=None)
        if form == "json":
            output.document({"image_ref": pulled.image_ref})
        else:
            click.echo(pulled.image_ref)

    talk_to(endpoint, talk)


@contextlib.asynccontextmanager
async def _shown(channel: Channel, reference: str, *, quiet: bool) -> AsyncIterator[None]:
    """Show how far the pull of `reference` is that runs in the block, up to its last phase."""
    if quiet:
        yield
        return
    watching, ended = asyncio.Event(), asyncio.Event()
    showing = asyncio.create_task(_show(channel, reference, watching, ended))
    try:
        await _first(showing, watching)
        yield
        # What the server says last may come a moment after its answer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await _first(showing, ended)
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError, click.ClickException):
            await showing


async def _first(showing: asyncio.Task[None], event: asyncio.Event) -> None:
    """Wait for an event, but no longer than the showing lasts."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({showing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _show(channel: Channel, reference: str, watching: asyncio.Event, ended: asyncio.Event) -> None:
    # Imported here: rich takes longer to load than the pull of an image that is there.
    from criimage.cli.progress import display, is_over

    with display(sys.stderr) as shown:
        async for pulls in watch_pulls(channel):
            watching.set()
            ours = [pull for pull in pulls if reference in {pull.reference, pull.resolved}]
            shown.update(ours)
            if ours and all(map(is_over, ours)):
                ended.set()


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
