"""`criimage completion`."""

from __future__ import annotations

import click

from criimage.shipping.shipped import SHELLS, completion_script

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script that completes criimage's commands in SHELL."""
    from criimage.cli.main import main

    click.echo(completion_script(main, shell), nl=False)
