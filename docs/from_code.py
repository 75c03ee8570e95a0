"""What reference pages show as the code itself has it, written while the pages are built.

The pages explain; what they leave out, or a version changes, stands here all the same.
"""  # noqa: INP001 - Sphinx imports it from beside its settings

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from criimage import errors
from criimage.cli import main
from criimage.cli.config import example_settings
from criimage.metrics import PrometheusMetrics, error_kinds
from criimage.server.calls.grpc_status import status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["write"]


def write(folder: Path) -> None:
    """Write `settings.toml`, `help.txt`, `metrics.txt` and `errors.txt` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (
        ("settings.toml", example_settings()),
        ("help.txt", _helps(main, "criimage", None)),
        ("metrics.txt", _series()),
        ("errors.txt", _errors()),
    ):
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")


def _helps(command: click.Command, name: str, above: click.Context | None) -> Iterator[str]:
    context = click.Context(command, above, name, **command.context_settings)
    yield from (f"$ {context.command_path} --help", command.get_help(context), "")
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _helps(found, below, context)


def _series() -> Iterator[str]:
    """Yield name, type and meaning of each series, in the words of `/metrics`."""
    for family in PrometheusMetrics("memory", ["Version"], ["internal"]).registry.collect():
        name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
        yield from (f"{name} ({family.type})", f"    {family.documentation}")


def _errors() -> Iterator[str]:
    """Yield each kind with the gRPC code and the beginning of the text that a client sees, and the error's class."""
    classes = {getattr(errors, name).kind: getattr(errors, name) for name in errors.__all__ if name != "CriimageError"}
    for kind in error_kinds():
        if kind not in classes:
            yield f"{kind:22}what becomes of a call, not an error of its own"
            continue
        status, text = status_of(classes[kind]("..."))
        yield f"{kind:22}{status.name:22}{text:32}{classes[kind].__name__}"
