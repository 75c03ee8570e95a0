"""Images in a containers-storage store, as CRI-O, podman and buildah keep them: skopeo fills it, we read its files.

Importing this package is cheap; everything else is imported when the plugin is opened.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.plugins import Plugin
from criimage_containers_storage.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Backend

__all__ = ["Settings", "plugin"]


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Backend]:
    from criimage_containers_storage.backend import open_backend

    async with open_backend(settings) as backend:
        yield backend


plugin = Plugin(name="containers-storage", contract=1, settings_model=Settings, open=_open)
