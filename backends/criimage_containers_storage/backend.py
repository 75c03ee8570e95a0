"""The backend: each call of the contract, put together from the parts."""

from __future__ import annotations

import asyncio
import functools
import importlib
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from criimage.backend import ImageDetails, Usage
from criimage.errors import ConfigurationError, InvalidRequest
from criimage_containers_storage.finishing import finish, settled
from criimage_containers_storage.opening import Opening
from criimage_containers_storage.pulling.work_folder import WorkFolder
from criimage_containers_storage.store.images import verbose_info
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.split_store import tools_environment
from criimage_containers_storage.store.storage_conf import locate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from criimage.backend import Examination, Image, Problem, ProgressReporter, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Lookup, Name, Pattern, Reference
    from criimage_containers_storage.config_files import RuleSet
    from criimage_containers_storage.parts import Parts
    from criimage_containers_storage.settings import Settings
    from criimage_containers_storage.store.snapshot import Snapshot, Stored
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["ContainersStorageBackend", "open_backend"]

_DEFAULT_TMP = "/var/tmp"  # noqa: S108 - where skopeo itself keeps what is large; ours is a private folder in it


@asynccontextmanager
async def open_backend(
    settings: Settings, environment: Mapping[str, str], rules: RuleSet, version: str
) -> AsyncIterator[ContainersStorageBackend]:
    """Open the backend; the store itself may not exist yet.

    Nothing here or behind `images` uses anyio, whose part for asyncio takes as long to be imported as all that a list
    needs of ours.

    Args:
        settings: the backend's.
        environment: the tools'.
        rules: by which the skopeo in use finds its files.
        version: of that skopeo; empty if it is not known.

    Raises:
        ConfigurationError: storage.conf is not usable, or there is no place for downloads.
    """
    layout = await asyncio.to_thread(locate, settings, environment, rules, version)
    async with AsyncExitStack() as stack:
        work = await _work_folder(settings, environment, layout)
        stack.push_async_callback(asyncio.to_thread, work.close)
        tools = stack.enter_context(tools_environment(layout, environment))
        store = Store(layout)

        @asynccontextmanager
        async def parts() -> AsyncIterator[Parts]:
            # By a thread: calls that need none of them are answered meanwhile.
            await asyncio.to_thread(importlib.import_module, "criimage_containers_storage.parts")
            from criimage_containers_storage.parts import open_parts

            async with open_parts(settings, layout, environment, tools, rules, store, work) as opened:
                yield opened

        opening = Opening(parts)
        stack.push_async_callback(opening.close)
        examine = functools.partial(_examine, settings, layout, environment, rules, version)
        warn = functools.partial(_limits, version)
        yield ContainersStorageBackend(store, opening, examine, warn, untag=settings.remove == "untag")


async def _work_folder(settings: Settings, environment: Mapping[str, str], layout: Layout) -> WorkFolder:
    parent = Path(settings.tmp_dir or environment.get("TMPDIR") or _DEFAULT_TMP)
    making = asyncio.create_task(asyncio.to_thread(WorkFolder, parent, layout))
    cancelled = await settled(making)
    try:
        work = making.result()
    except OSError as error:
        key = ("backends", "containers-storage", "tmp_dir") if settings.tmp_dir else ()
        text = f"cannot keep downloads in {parent}: {error.strerror}; set tmp_dir"
        raise ConfigurationError(text, key) from error
    if cancelled:
        work.close()
        raise asyncio.CancelledError
    return work


async def _examine(
    settings: Settings, layout: Layout, environment: Mapping[str, str], rules: RuleSet, version: str
) -> Examination:
    # Imported for `config check` only: time at the start, and memory.
    from criimage_containers_storage.examination import Examiner

    return await Examiner(settings, layout, environment, rules, version).examine()


def _limits(version: str) -> tuple[Problem, ...]:
    # The same.
    from criimage_containers_storage.limits import limits

    return limits(version)


class ContainersStorageBackend:
    """See `criimage.backend.Backend`."""

    def __init__(
        self,
        store: Store,
        opening: Opening[Parts],
        examine: Callable[[], Awaitable[Examination]],
        limits_here: Callable[[], tuple[Problem, ...]],
        *,
        untag: bool,
    ) -> None:
        self._store = store
        self._opening = opening
        self._examine = examine
        self._limits_here = limits_here
        self._untag = untag

    @property
    def reports_progress(self) -> bool:
        """Bytes as they arrive, and the unpacking as activity."""
        return True

    async def check(self) -> tuple[Problem, ...]:
        """Tell what is missing; opens what no list needs, if nobody has needed it before."""
        parts = await self._opening.get()
        return await finish(anyio.to_thread.run_sync(parts.readiness.problems))

    async def examine(self) -> Examination:
        """Try out skopeo, driver, options and policy in a store that is thrown away, and tell the files that count."""
        return await self._examine()

    async def limits(self) -> tuple[Problem, ...]:
        """Tell what cannot be safe with the tools that are here, see `criimage.backend.Limited`."""
        return self._limits_here()

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Return what a name may mean, by the machine's registries.conf and aliases."""
        return await (await self._opening.get()).resolver.resolve(name, pulling=True)

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
        return await (await self._opening.get()).puller.pull(reference, credentials, context.namespace, report)

    async def remove(self, lookup: Lookup) -> None:
        """Remove an image; with `remove = "untag"` and a name, that name.

        Raises:
            InvalidRequest: a short name cannot be resolved.
        """
        remover = (await self._opening.get()).remover
        snapshot = await self._store.now()
        found, reference = await self._find(snapshot, lookup)
        if found is None:
            # A record that lists hide for a moment is there all the same.
            for identity in await self._hidden(snapshot, lookup):
                await remover.remove_record(identity)
            return
        if self._untag and reference is not None:
            await remover.untag(found, reference)
        else:
            await remover.remove(found)

    async def usage(self) -> Usage:
        """Return what the writable store takes; images and containers share its folder unless it is split."""
        meter = (self._opening.value or await self._opening.get()).meter
        measured = await meter.usage()
        return Usage((measured,), (await meter.containers() or measured,))

    async def _hidden(self, snapshot: Snapshot, lookup: Lookup) -> list[str]:
        """Return the records that a lookup means although they are no images yet or any more."""
        if lookup.id is not None:
            return [lookup.id.hex] if lookup.id.hex in snapshot.hidden else []
        prefix = lookup.id_prefix
        found = [one for one in snapshot.hidden if prefix is not None and one.startswith(prefix)]
        if len(found) == 1 or lookup.name is None or not snapshot.hidden:
            return found if len(found) == 1 else []
        resolver = (await self._opening.get()).resolver
        names = set(map(str, await resolver.resolve(lookup.name)))
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
        resolver = (self._opening.value or await self._opening.get()).resolver
        try:
            candidates = await resolver.resolve(lookup.name)
        except InvalidRequest:
            if lookup.id_prefix is not None:
                return None, None
            raise
        for candidate in candidates:
            found = snapshot.by_name.get(candidate)
            if found is not None:
                return found, candidate
        return None, None
