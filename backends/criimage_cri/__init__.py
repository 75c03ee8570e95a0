"""Another container runtime's image service as the store: containerd, CRI-O, cri-dockerd, or any that speaks CRI.

Importing this package is cheap; the client is imported when the plugin is opened.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.plugins import Plugin
from criimage_cri.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Backend

__all__ = ["Settings", "plugin"]


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Backend]:
    from criimage_cri.backend import open_backend

    async with open_backend(settings) as backend:
        yield backend


plugin = Plugin(name="cri", contract=1, settings_model=Settings, open=_open)
