"""What a shell completes from the running service: IDs of pulls and removals, names of images.

A shell waits while this runs and shows nothing of its errors: the service has a moment to answer, and where it does not
there are no words.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from criimage.channel import Channel
from criimage.cli.connection import ask, given_before
from criimage.cli.output import printable
from criimage.cri.criimage.v1 import (
    ListPullsRequest,
    ListPullsResponse,
    ListRemovalsRequest,
    ListRemovalsResponse,
)
from criimage.cri.runtime import v1
from criimage.endpoint import DEFAULT_ENDPOINT, socket_path
from criimage.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["images", "pulls", "removals"]

_SECONDS = 1.0

Words = list[tuple[str, str]]


def pulls(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the IDs of the pulls that run, each with its image."""

    async def find(channel: Channel) -> Words:
        service = "criimage.v1.PullService"
        reply = await ask(channel, "ListPulls", ListPullsRequest(), ListPullsResponse, service=service)
        return [(pull.id, pull.reference) for pull in reply.pulls]

    return _completed(context, incomplete, find)


def removals(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the IDs of the removals that run, each with its image."""

    async def find(channel: Channel) -> Words:
        service = "criimage.v1.RemovalService"
        reply = await ask(channel, "ListRemovals", ListRemovalsRequest(), ListRemovalsResponse, service=service)
        return [(removal.id, removal.image) for removal in reply.removals]

    return _completed(context, incomplete, find)


def images(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of the images that are there; IDs where nothing else begins so, or an image has no name."""

    async def find(channel: Channel) -> Words:
        reply = await ask(channel, "ListImages", v1.ListImagesRequest(), v1.ListImagesResponse)
        named = [(tag, image.id) for image in reply.images for tag in image.repo_tags]
        unnamed = [image.id for image in reply.images if not image.repo_tags or incomplete]
        return sorted(named) + [(identity, "") for identity in unnamed]

    return _completed(context, incomplete, find)


def _completed(
    context: click.Context, incomplete: str, find: Callable[[Channel], Awaitable[Words]]
) -> list[CompletionItem]:
    async def found() -> Iterable[tuple[str, str]]:
        async with asyncio.timeout(_SECONDS), Channel(socket_path(_endpoint(context))) as channel:
            return await find(channel)

    try:
        words = asyncio.run(found())
    except (click.ClickException, ConfigurationError, OSError):
        return []
    return [
        CompletionItem(printable(word), help=printable(about)) for word, about in words if word.startswith(incomplete)
    ]


def _endpoint(context: click.Context) -> str:
    own = str(context.params.get("endpoint") or DEFAULT_ENDPOINT)
    above = context.parent is not None and "endpoint" in context.parent.params
    return given_before(context, "endpoint", own) if above else own
