"""The command `criimage`: its subcommands by name, and what every failure looks like.

Exit codes: 0; 1 what was asked failed; 2 usage or configuration.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from criimage import __version__
from criimage.errors import ConfigurationError
from criimage.standard_descriptors import open_closed_descriptors

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["main"]

_COMMANDS = {
    "serve": ("criimage.cli.serve:serve", "Serve CRI's ImageService."),
    "images": ("criimage.cli.client:images", "List images."),
    "pull": ("criimage.cli.pull:pull", "Pull an image."),
    "inspect": ("criimage.cli.client:inspect", "Show all that is known of an image."),
    "rmi": ("criimage.cli.client:rmi", "Remove images."),
    "fsinfo": ("criimage.cli.client:fsinfo", "Show where images lie and what they take."),
    "pulls": ("criimage.cli.pulls:pulls", "Show the pulls that run, or end one."),
    "status": ("criimage.cli.status:status", "Show whether the service can do its work."),
    "removals": ("criimage.cli.removals:removals", "Show the removals that run, or end one."),
    "version": ("criimage.cli.client:version", "Show what answers at the endpoint."),
    "conformance": ("criimage.cli.conformance:conformance", "Judge any CRI image service."),
    "config": ("criimage.cli.config:config", "Print or check settings."),
    "backends": ("criimage.cli.config:backends", "List the installed backends."),
    "install": ("criimage.cli.install:install", "Write units, settings, manual, completion and dashboards."),
    "uninstall": ("criimage.cli.install:uninstall", "Take back what `criimage install` wrote."),
    "completion": ("criimage.cli.completion:completion", "Print a script for a shell's completion."),
}
"""Where each command is, and what help and completion say of it without importing it."""

_NOT_WRITTEN = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class _Commands(click.Group):
    """Imports a command when it is used: a client command need not wait for the server's modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        if cmd_name != "serve" and "structlog" in sys.modules:
            # Events of a backend or of what it uses would stand, as they are, among what the command prints.
            from criimage.logs import drop_all

            drop_all()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # click tells it of options only.
            import difflib

            for close in difflib.get_close_matches(args[0], _COMMANDS, n=1):
                raise click.UsageError(f"{error.message} Did you mean '{close}'?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        known = [(name, summary) for name, (_, summary) in _COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=summary) for name, summary in known] + options

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the command; an output that cannot be written is one line, a reader that has gone is none."""
        open_closed_descriptors()
        _show_what_cannot_be_encoded()
        try:
            try:
                return super().main(*args, **extra)
            finally:
                stream: TextIO | None = sys.stdout
                if stream is not None:
                    stream.flush()
        except OSError as error:
            if error.errno not in _NOT_WRITTEN or error.filename is not None:
                raise
            # The interpreter writes what is left at its end, and would complain about that in lines of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
            if error.errno != errno.EPIPE:
                click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            raise SystemExit(1) from None

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise _ConfigurationFailed(error.text) from error


def _show_what_cannot_be_encoded() -> None:
    """Let signs that the terminal's encoding does not have be shown as escapes, as Python does on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _ConfigurationFailed(click.ClickException):
    exit_code = 2


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="criimage", message="%(prog)s %(version)s")
def main() -> None:
    """Serve the images of a Kubernetes node over CRI, and talk to such a service."""
