"""Images in a containers-storage store, as CRI-O, podman and buildah keep them: skopeo fills it, we read its files.

Importing this package is cheap; everything else is imported when the plugin is opened.
"""

from __future__ import annotations

import asyncio
import os
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
    from criimage_containers_storage.config_files import rule_set

    # skopeo takes as long to tell its version as the imports take: they are made meanwhile.
    environment = dict(os.environ)
    asked = asyncio.get_running_loop().run_in_executor(None, rule_set, environment)
    from criimage_containers_storage.backend import open_backend

    async with open_backend(settings, environment, *await asked) as backend:
        yield backend


plugin = Plugin(name="containers-storage", contract=1, settings_model=Settings, open=_open)
