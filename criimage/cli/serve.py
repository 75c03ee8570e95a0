"""`criimage serve`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from criimage.cli.options import layers_from, settings_options
from criimage.heap import pause_collector

__all__ = ["serve"]


@click.command()
@settings_options
def serve(**options: Any) -> None:  # noqa: ANN401 - click's own
    """Serve CRI's ImageService until SIGTERM; SIGHUP reads the settings again."""
    pause_collector()
    # pydantic looks through all that is installed for plugins, and loads them: time at the start, and code of others.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    reread = layers_from(**options)
    layers = reread()
    # structlog loads rich wherever it is installed, for tracebacks that nobody wants here: time at the start, and
    # memory.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    layers.settings()  # a wrong key is told before the server's modules are loaded
    from criimage.server.app import run

    with layers.placing():
        run(layers, reread)
