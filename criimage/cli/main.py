"""The command `criimage`: its subcommands by name, and what every failure looks like.

Exit codes: 0; 1 what was asked failed; 2 usage or configuration.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from criimage import __version__
from criimage.errors import ConfigurationError

__all__ = ["main"]

_COMMANDS = {
    "serve": "criimage.cli.serve:serve",
    "images": "criimage.cli.client:images",
    "pull": "criimage.cli.client:pull",
    "inspect": "criimage.cli.client:inspect",
    "rmi": "criimage.cli.client:rmi",
    "fsinfo": "criimage.cli.client:fsinfo",
    "version": "criimage.cli.client:version",
    "config": "criimage.cli.config:config",
    "backends": "criimage.cli.config:backends",
    "completion": "criimage.cli.completion:completion",
}


class _Commands(click.Group):
    """Imports a command when it is used: a client command need not wait for the server's modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise _ConfigurationFailed(error.text) from error


class _ConfigurationFailed(click.ClickException):
    exit_code = 2


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="criimage", message="%(prog)s %(version)s")
def main() -> None:
    """Serve the images of a Kubernetes node over CRI, and talk to such a service."""
