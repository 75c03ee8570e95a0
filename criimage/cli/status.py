"""`criimage status`: whether the service can do its work, and what it runs on."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from criimage.cli import output
from criimage.cli.connection import ask, client_options, talk_to, version_of
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
            _print(reply, await _runtime(channel, reply.runtime) if reply.runtime else "none: image service only")
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


async def _runtime(channel: Channel, endpoint: str) -> str:
    try:
        found = await version_of(channel)
    except click.ClickException as error:
        return f"{endpoint}, which does not answer: {error.message}"
    return f"{found.runtime_name} {found.runtime_version} at {endpoint}"


def _print(reply: GetStatusResponse, runtime: str) -> None:
    from criimage.server.reload import differences

    settings = json.loads(reply.settings or "{}")
    own = {"listen": settings.get("listen"), "backend": reply.backend}
    rows = [
        ("health", "serving" if reply.serving else "not serving"),
        ("version", reply.version),
        ("backend", reply.backend),
        ("runtime", runtime),
        ("listen", str(settings.get("listen", ""))),
        *(
            ("setting", f"{key} = {json.dumps(value, ensure_ascii=False)}")
            for key, value in differences(_defaults(reply.backend) | own, settings).items()
            if value is not None  # else a key that the server, which is another version, does not have
        ),
        *(("problem", f"{each.source}: {each.text} ({each.remedy})") for each in reply.problems),
    ]
    for name, value in rows:
        click.echo(f"{name + ':':10}{output.printable(value)}")


def _defaults(backend: str) -> dict[str, Any]:
    """Return the settings of a server that none were given, as this program knows them.

    Those of the backend are left out where it is not installed here, or cannot be without settings: all it has is then
    shown.
    """
    from pydantic import ValidationError

    from criimage.plugins import Unusable, examined
    from criimage.server.reload import in_force
    from criimage.settings import Settings

    plugin = examined(backend)
    if not isinstance(plugin, Unusable):
        with contextlib.suppress(ValidationError):
            return in_force(Settings(), backend, plugin.settings_model())
    return {**Settings().model_dump(mode="json"), "backends": {}}
