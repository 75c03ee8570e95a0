"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from criimage.settings import Layers

__all__ = ["layers_from", "settings_options"]

Command = Any

_CONFIG_OPTION = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CRIIMAGE_CONFIG",
    show_envvar=True,
    help="Settings file; drop-ins lie in conf.d beside it. [default: /etc/criimage/config.toml if it exists]",
)


def _backends(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from criimage.plugins import installed

    known = {backend.name: backend.distribution for backend in installed()}
    return [CompletionItem(name, help=owner) for name, owner in known.items() if name.startswith(incomplete)]


_SETTINGS_OPTIONS = (
    _CONFIG_OPTION,
    click.option(
        "--backend",
        metavar="NAME",
        shell_complete=_backends,
        help="Backend to use; `criimage backends` lists what is installed.",
    ),
    click.option(
        "--listen", metavar="ENDPOINT", help="Socket to serve on: unix:///PATH, or fd:// for one passed by systemd."
    ),
    click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting by its dotted key; repeatable."
    ),
    click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much to log."),
    click.option("--log-format", type=click.Choice(["text", "json"]), help="How log lines look."),
)


def settings_options(command: Command) -> Command:
    """Give a command every option that settings can be changed by; they arrive as keyword arguments."""
    for option in reversed(_SETTINGS_OPTIONS):
        command = option(command)
    return command


def layers_from(
    config: Path | None,
    backend: str | None = None,
    listen: str | None = None,
    assignments: tuple[str, ...] = (),
    log_level: str | None = None,
    log_format: str | None = None,
    *,
    read: Callable[..., Layers] | None = None,
) -> Callable[[], Layers]:
    """Return what reads the settings, with `read` in place of `read_layers` if given, each time it is called.

    Raises:
        click.BadParameter: an assignment without `=`.
    """
    # Not before a command runs: `serve` looks for no garbage meanwhile, and a help needs no models.
    from criimage.settings import read_layers, read_value

    overrides: list[tuple[str, Any]] = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise click.BadParameter(f"{assignment!r} is not of the form KEY=VALUE", param_hint="--set")
        overrides.append((key, read_value(value)))
    given = {"backend": backend, "listen": listen, "log.level": log_level, "log.format": log_format}
    overrides += [(key, value) for key, value in given.items() if value is not None]
    return lambda: (read or read_layers)(config, overrides)
