"""A client command's connection: typed messages, and errors as a person reads them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import betterproto
import click
from click.core import ParameterSource
from grpclib.const import Status

from criimage.channel import CallError, Channel
from criimage.cli.output import printable
from criimage.cri.criimage.v1 import WatchPullsRequest, WatchPullsResponse
from criimage.cri.runtime import v1
from criimage.endpoint import DEFAULT_ENDPOINT, socket_path

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from criimage.cri.criimage.v1 import Pull

__all__ = [
    "NotCriimage",
    "ask",
    "client_options",
    "endpoint_option",
    "form_option",
    "given_before",
    "talk_to",
    "version_of",
    "watch_pulls",
]

Command = Any

endpoint_option = click.option(
    "--endpoint",
    default=DEFAULT_ENDPOINT,
    envvar="CRIIMAGE_ENDPOINT",
    show_default=True,
    show_envvar=True,
    metavar="unix:///PATH",
    help="Socket of the image service.",
)

SECONDS = 30.0
"""Deadline of every call but pulls and removals."""

_START = "start it (systemctl start criimage, or criimage serve), or name another socket with --endpoint"
_REMEDIES = {
    ": No such file or directory": f"; is criimage running? {_START}",
    ": Connection refused": f"; nobody listens on it: {_START}",
    ": Permission denied": "; root may, and the group of the socket: see [socket] in the settings",
}
"""What a person at a terminal can do about a socket that cannot be reached."""

_OWN = "criimage."
"""What the names of criimage's own services begin with; every other CRI server lacks them."""

_OWN_PULLS = "criimage.v1.PullService"

ReplyT = TypeVar("ReplyT", bound=betterproto.Message)


class NotCriimage(click.ClickException):
    """What answers is another CRI server, or an older criimage, and has not what was asked for."""


async def ask(
    channel: Channel,
    method: str,
    request: betterproto.Message,
    reply: type[ReplyT],
    *,
    seconds: float | None = SECONDS,
    service: str = "runtime.v1.ImageService",
) -> ReplyT:
    """Call a method and return its reply.

    Raises:
        NotCriimage: the service is criimage's own, and what answers does not have it.
        click.ClickException: the call failed; the text is the server's. Or the request has what is no text, as an
            argument may in which bytes are no UTF-8, or the answer makes no sense.
    """
    try:
        data = bytes(request)
    except UnicodeEncodeError as error:
        raise click.ClickException("an argument is no text: its bytes are no UTF-8") from error
    try:
        return _read(reply, await channel.unary(f"/{service}/{method}", data, seconds))
    except CallError as error:
        if service.startswith(_OWN) and error.status is Status.UNIMPLEMENTED:
            raise await _not_criimage(channel, service) from error
        raise _told(error) from error


async def version_of(channel: Channel) -> v1.VersionResponse:
    """Return what answers RuntimeService on the socket: a runtime that is relayed, otherwise the service itself.

    Raises:
        click.ClickException: as `ask`.
    """
    return await ask(channel, "Version", v1.VersionRequest(), v1.VersionResponse, service="runtime.v1.RuntimeService")


async def _not_criimage(channel: Channel, service: str) -> NotCriimage:
    try:
        found = await version_of(channel)
    except click.ClickException:
        name = "what answers there"
    else:
        name = f"{found.runtime_name} {found.runtime_version}"
    return NotCriimage(f"{printable(name)} has no {service}: it is not criimage, or an older one")


def _read(reply: type[ReplyT], data: bytes) -> ReplyT:
    try:
        return reply().parse(data)
    except Exception as error:
        text = "the answer makes no sense: what listens at the endpoint is no server of this kind"
        raise click.ClickException(text) from error


async def watch_pulls(channel: Channel) -> AsyncGenerator[list[Pull], None]:
    """Yield the server's pulls at once and after every change.

    Raises:
        NotCriimage: what answers cannot tell.
        click.ClickException: the connection is lost, or what comes makes no sense.
    """
    messages = channel.stream(f"/{_OWN_PULLS}/WatchPulls", bytes(WatchPullsRequest()))
    try:
        async with aclosing(messages):
            async for message in messages:
                yield _read(WatchPullsResponse, message).pulls
    except CallError as error:
        if error.status is Status.UNIMPLEMENTED:
            raise await _not_criimage(channel, _OWN_PULLS) from error
        raise _told(error) from error


def _told(error: CallError) -> click.ClickException:
    remedy = "" if error.reached else next((words for end, words in _REMEDIES.items() if error.text.endswith(end)), "")
    return click.ClickException(printable(error.text) + remedy)


form_option = click.option(
    "--output",
    "-o",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What the answer looks like.",
)


def client_options(command: Command) -> Command:
    """Give a command the options of every client command: endpoint and form of the output."""
    return endpoint_option(form_option(command))


def given_before(context: click.Context, name: str, value: str) -> str:
    """Return an option's value, which may stand before a command's subcommand as well as behind it."""
    if context.parent is None or context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        return value
    return str(context.parent.params[name])


def talk_to(endpoint: str, talk: Callable[[Channel], Awaitable[None]]) -> None:
    """Connect to an endpoint and run `talk` on the channel."""

    async def connected() -> None:
        async with Channel(socket_path(endpoint)) as channel:
            await talk(channel)

    asyncio.run(connected())
