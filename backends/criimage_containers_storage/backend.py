"""The backend: each call of the contract, put together from the parts."""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from criimage.backend import ImageDetails, Usage
from criimage.errors import ConfigurationError, InvalidRequest
from criimage.lasting import lasting
from criimage_containers_storage.config_files import alias_cache, registries_files, rule_set
from criimage_containers_storage.finishing import finish
from criimage_containers_storage.limits import limits
from criimage_containers_storage.pulling.changes import StoreChanges
from criimage_containers_storage.pulling.journal import Journal
from criimage_containers_storage.pulling.leftovers import Leftovers
from criimage_containers_storage.pulling.manifest_source import ManifestSource
from criimage_containers_storage.pulling.proxies import Proxies
from criimage_containers_storage.pulling.pull import Puller
from criimage_containers_storage.pulling.skopeo import Skopeo
from criimage_containers_storage.pulling.work_folder import WorkFolder
from criimage_containers_storage.readiness import Readiness
from criimage_containers_storage.registries.credentials import CredentialResolver
from criimage_containers_storage.registries.current import CurrentRegistries
from criimage_containers_storage.registries.judge import Judge
from criimage_containers_storage.registries.names import Resolver
from criimage_containers_storage.registries.rules import RuleFinder
from criimage_containers_storage.removal import Remover
from criimage_containers_storage.store.access import StoreAccess
from criimage_containers_storage.store.images import verbose_info
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.split_store import tools_environment
from criimage_containers_storage.store.storage_conf import locate
from criimage_containers_storage.store.usage import UsageMeter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from criimage.backend import Examination, Image, Problem, ProgressReporter, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Lookup, Name, Pattern, Reference
    from criimage_containers_storage.config_files import RuleSet
    from criimage_containers_storage.settings import Settings
    from criimage_containers_storage.store.snapshot import Snapshot, Stored
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["ContainersStorageBackend", "open_backend"]

_COPY_PATIENCE = 2.0
_DEFAULT_TMP = "/var/tmp"  # noqa: S108 - where skopeo itself keeps what is large; ours is a private folder in it


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[ContainersStorageBackend]:
    """Open the backend; the store itself may not exist yet.

    Raises:
        ConfigurationError: storage.conf is not usable, or there is no place for downloads.
    """
    environment = dict(os.environ)
    rules, version = await anyio.to_thread.run_sync(rule_set, environment)
    layout = await anyio.to_thread.run_sync(locate, settings, environment, rules, version)
    parent = Path(settings.tmp_dir or environment.get("TMPDIR") or _DEFAULT_TMP)
    with ExitStack() as stack:
        try:
            work = await anyio.to_thread.run_sync(WorkFolder, parent, layout)
        except OSError as error:
            key = ("backends", "containers-storage", "tmp_dir") if settings.tmp_dir else ()
            text = f"cannot keep downloads in {parent}: {error.strerror}; set tmp_dir"
            raise ConfigurationError(text, key) from error
        stack.callback(work.close)
        store = Store(layout)
        access = StoreAccess(_COPY_PATIENCE)
        tools = stack.enter_context(tools_environment(layout, environment))
        skopeo = Skopeo(layout, tools)
        find = functools.partial(registries_files, settings.registries_conf, environment, rules, uid=os.geteuid())
        aliases = alias_cache(environment, uid=os.geteuid())
        registries = CurrentRegistries(find, aliases, work.path, Judge(environment))
        resolver = Resolver(registries, settings.short_name_mode)
        changes = StoreChanges(layout, tools, skopeo, access)
        journal = Journal(layout)
        stack.callback(journal.close)
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
        readiness = Readiness(settings, layout, environment, registries, work.path, rules)
        meter = UsageMeter(layout, store)
        warn = functools.partial(limits, version)
        remover = Remover(layout, changes, access)
        examine = functools.partial(_examine, settings, layout, environment, rules, version)
        try:
            async with lasting(leftovers.watch, "leftovers"):
                try:
                    yield ContainersStorageBackend(
                        store,
                        resolver,
                        puller,
                        remover,
                        readiness,
                        examine,
                        meter,
                        warn,
                        untag=settings.remove == "untag",
                    )
                finally:
                    resolver.close()
                    await puller.close()
        finally:
            await meter.close()
            await anyio.to_thread.run_sync(stack.close)


async def _examine(
    settings: Settings, layout: Layout, environment: Mapping[str, str], rules: RuleSet, version: str
) -> Examination:
    # Imported for `config check` only: time at the start, and memory.
    from criimage_containers_storage.examination import Examiner

    return await Examiner(settings, layout, environment, rules, version).examine()


class ContainersStorageBackend:
    """See `criimage.backend.Backend`."""

    def __init__(
        self,
        store: Store,
        resolver: Resolver,
        puller: Puller,
        remover: Remover,
        readiness: Readiness,
        examine: Callable[[], Awaitable[Examination]],
        meter: UsageMeter,
        limits_here: Callable[[], tuple[Problem, ...]],
        *,
        untag: bool,
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._puller = puller
        self._remover = remover
        self._readiness = readiness
        self._examine = examine
        self._meter = meter
        self._limits_here = limits_here
        self._untag = untag

    @property
    def reports_progress(self) -> bool:
        """Bytes as they arrive, and the unpacking as activity."""
        return True

    async def check(self) -> tuple[Problem, ...]:
        """Tell what is missing."""
        return await finish(anyio.to_thread.run_sync(self._readiness.problems))

    async def examine(self) -> Examination:
        """Try out skopeo, driver, options and policy in a store that is thrown away, and tell the files that count."""
        return await self._examine()

    async def limits(self) -> tuple[Problem, ...]:
        """Tell what cannot be safe with the tools that are here, see `criimage.backend.Limited`."""
        return self._limits_here()

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Return what a name may mean, by the machine's registries.conf and aliases."""
        return await self._resolver.resolve(name, pulling=True)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List the images, in the store's order."""
        snapshot = await self._store.snapshot()
        if pattern is None:
            return snapshot.images
        if pattern.lookup is None:
            return ()
        found, _ = await self._find(snapshot, pattern.lookup)
        return () if found is None else (found.image,)

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Return one image.

        Raises:
            InvalidRequest: a short name cannot be resolved (S15), unless it could only be an ID (N7).
        """
        found, _ = await self._find(await self._store.snapshot(), lookup)
        if found is None:
            return None
        info = {}
        if verbose:
            info = await anyio.to_thread.run_sync(verbose_info, found.folder, found.record, found.facts)
        return ImageDetails(found.image, found.facts.user, found.facts.annotations, info)

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        context: PullContext,
        report: ProgressReporter,
    ) -> Image:
        """Copy an image from its registry with skopeo, if it is not here as the registry has it."""
        return await self._puller.pull(reference, credentials, context.namespace, report)

    async def remove(self, lookup: Lookup) -> None:
        """Remove an image; with `remove = "untag"` and a name, that name.

        Raises:
            InvalidRequest: a short name cannot be resolved.
        """
        snapshot = await self._store.now()
        found, reference = await self._find(snapshot, lookup)
        if found is None:
            # A record that lists hide for a moment is there all the same.
            for identity in await self._hidden(snapshot, lookup):
                await self._remover.remove_record(identity)
            return
        if self._untag and reference is not None:
            await self._remover.untag(found, reference)
        else:
            await self._remover.remove(found)

    async def usage(self) -> Usage:
        """Return what the writable store takes; images and containers share its folder unless it is split."""
        measured = await self._meter.usage()
        return Usage((measured,), (await self._meter.containers() or measured,))

    async def _hidden(self, snapshot: Snapshot, lookup: Lookup) -> list[str]:
        """Return the records that a lookup means although they are no images yet or any more."""
        if lookup.id is not None:
            return [lookup.id.hex] if lookup.id.hex in snapshot.hidden else []
        prefix = lookup.id_prefix
        found = [one for one in snapshot.hidden if prefix is not None and one.startswith(prefix)]
        if len(found) == 1 or lookup.name is None or not snapshot.hidden:
            return found if len(found) == 1 else []
        names = set(map(str, await self._resolver.resolve(lookup.name)))
        return [identity for identity, record in snapshot.hidden.items() if names & set(record.names)]

    async def _find(self, snapshot: Snapshot, lookup: Lookup) -> tuple[Stored | None, Reference | None]:
        """Return the image that a lookup means, with the name by which it was found (S16, N6, N7)."""
        if lookup.id is not None:
            return snapshot.by_id.get(lookup.id.hex), None
        if lookup.id_prefix is not None:
            found = snapshot.with_prefix(lookup.id_prefix)
            if found is not None:
                return found, None
        if lookup.name is None:
            return None, None
        try:
            candidates = await self._resolver.resolve(lookup.name)
        except InvalidRequest:
            if lookup.id_prefix is not None:
                return None, None
            raise
        for candidate in candidates:
            found = snapshot.by_name.get(candidate)
            if found is not None:
                return found, candidate
        return None, None
