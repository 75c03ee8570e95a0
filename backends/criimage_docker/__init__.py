"""Images in a Docker engine, as dockershim and cri-dockerd show them, over the Engine API.

Importing this package is cheap; aiodocker and aiohttp are imported when the plugin is opened.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.errors import ConfigurationError
from criimage.plugins import Plugin, how_to_install
from criimage_docker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Backend

__all__ = ["Settings", "plugin"]


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Backend]:
    try:
        from criimage_docker.backend import open_backend
    except ModuleNotFoundError as error:
        if error.name not in {"aiodocker", "aiohttp"}:
            raise
        raise ConfigurationError(
            f"the docker backend needs the package {error.name}: {how_to_install('criimage', 'docker')}"
        ) from error
    async with open_backend(settings) as backend:
        yield backend


plugin = Plugin(
    name="docker",
    contract=1,
    settings_model=Settings,
    open=_open,
    extra="docker",
    extra_modules=("aiodocker", "aiohttp"),
)
