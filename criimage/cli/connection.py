"""A client command's connection: typed messages, and errors as a person reads them."""

from __future__ import annotations

from typing import TypeVar

import betterproto
import click

from criimage.channel import CallError, Channel

__all__ = ["ask"]

SECONDS = 30.0
"""Deadline of every call but pulls and removals."""

ReplyT = TypeVar("ReplyT", bound=betterproto.Message)


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
        click.ClickException: the call failed; the text is the server's.
    """
    try:
        return reply().parse(await channel.unary(f"/{service}/{method}", bytes(request), seconds))
    except CallError as error:
        raise click.ClickException(error.text) from error
