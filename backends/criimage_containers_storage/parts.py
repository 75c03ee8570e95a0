"""What answers every call but a list of all images, put together from the parts.

A start is imports, and most of what is imported here no list needs. So it is imported with the backend's first check,
which the core makes as soon as a server has settled and `criimage config check` makes too, or with the first call that
needs it. A part that cannot be imported is told by that check.
"""

from __future__ import annotations

import asyncio
import functools
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage.lasting import lasting
from criimage_containers_storage.config_files import alias_cache, registries_files
from criimage_containers_storage.pulling.changes import StoreChanges
from criimage_containers_storage.pulling.journal import Journal
from criimage_containers_storage.pulling.leftovers import Leftovers
from criimage_containers_storage.pulling.manifest_source import ManifestSource
from criimage_containers_storage.pulling.proxies import Proxies
from criimage_containers_storage.pulling.pull import Puller
from criimage_containers_storage.pulling.skopeo import Skopeo
from criimage_containers_storage.readiness import Readiness
from criimage_containers_storage.registries.credentials import CredentialResolver
from criimage_containers_storage.registries.current import CurrentRegistries
from criimage_containers_storage.registries.judge import Judge
from criimage_containers_storage.registries.names import Resolver
from criimage_containers_storage.registries.rules import RuleFinder
from criimage_containers_storage.removal import Remover
from criimage_containers_storage.store.access import StoreAccess
from criimage_containers_storage.store.usage import UsageMeter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from criimage_containers_storage.config_files import RuleSet
    from criimage_containers_storage.pulling.work_folder import WorkFolder
    from criimage_containers_storage.settings import Settings
    from criimage_containers_storage.store.reader import Store
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Parts", "open_parts"]

_COPY_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Each of them answers some calls.

    Attributes:
        resolver: what names mean.
        puller: pulls.
        remover: removals.
        readiness: what is missing.
        meter: usage.
    """

    resolver: Resolver
    puller: Puller
    remover: Remover
    readiness: Readiness
    meter: UsageMeter


@asynccontextmanager
async def open_parts(
    settings: Settings,
    layout: Layout,
    environment: Mapping[str, str],
    tools: Mapping[str, str],
    rules: RuleSet,
    store: Store,
    work: WorkFolder,
) -> AsyncIterator[Parts]:
    """Put them together; what a killed server has left is taken over first.

    Args:
        settings: the backend's.
        layout: the store.
        environment: by which files are found.
        tools: the environment of the tools.
        rules: by which the skopeo in use finds its files.
        store: reads the store.
        work: for downloads.
    """
    access = StoreAccess(_COPY_PATIENCE)
    skopeo = Skopeo(layout, tools)
    find = functools.partial(registries_files, settings.registries_conf, environment, rules, uid=os.geteuid())
    aliases = alias_cache(environment, uid=os.geteuid())
    registries = CurrentRegistries(find, aliases, work.path, Judge(environment))
    changes = StoreChanges(layout, tools, skopeo, access)
    journal = Journal(layout)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, journal.close)
        leftovers = Leftovers(layout, skopeo, changes, access, journal)
        await leftovers.take_over()
        puller = Puller(
            layout,
            RuleFinder(settings, environment, rules),
            CredentialResolver(settings, environment),
            store,
            skopeo,
            ManifestSource(skopeo, Proxies() if settings.image_proxy else None, work.path / "proxies"),
            access,
            registries,
            changes,
            leftovers,
            work,
            skip_unchanged=settings.skip_unchanged,
        )
        meter = UsageMeter(layout, store)
        stack.push_async_callback(meter.close)
        await stack.enter_async_context(lasting(leftovers.watch, "leftovers"))
        resolver = Resolver(registries, settings.short_name_mode)
        stack.push_async_callback(puller.close)
        stack.callback(resolver.close)
        yield Parts(
            resolver,
            puller,
            Remover(layout, changes, access),
            Readiness(settings, layout, environment, registries, work.path, rules),
            meter,
        )
