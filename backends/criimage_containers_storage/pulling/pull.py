"""One pull: ask the registry, skip or copy, look at what came (cri-o sections 2, 3 and 10)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from criimage.backend import Phase
from criimage.errors import (
    AccessDenied,
    ContentInvalid,
    CriimageError,
    OperationFailed,
    PullError,
    RateLimited,
    StorageFull,
)
from criimage.foreign_text import without_own_places
from criimage.rounds import Rounds
from criimage_containers_storage.finishing import BackgroundTasks, finish, settled
from criimage_containers_storage.pulling.failures import LAYER_GONE, last_words, pull_failure
from criimage_containers_storage.pulling.manifest_source import Question
from criimage_containers_storage.pulling.manifests import LayersToFetch, is_encrypted, layers_to_fetch
from criimage_containers_storage.pulling.progress import Watch

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from criimage.backend import Image, ProgressReporter
    from criimage.credentials import Credentials
    from criimage.reference import Reference
    from criimage_containers_storage.pulling.changes import StoreChanges
    from criimage_containers_storage.pulling.journal import Entry
    from criimage_containers_storage.pulling.leftovers import Leftovers
    from criimage_containers_storage.pulling.manifest_source import ManifestSource
    from criimage_containers_storage.pulling.process import Outcome
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.pulling.work_folder import WorkFolder
    from criimage_containers_storage.registries.credentials import CredentialResolver, ResolvedCredentials
    from criimage_containers_storage.registries.current import Configuration, CurrentRegistries
    from criimage_containers_storage.registries.rules import RuleFinder, Rules
    from criimage_containers_storage.store.access import StoreAccess
    from criimage_containers_storage.store.reader import Store
    from criimage_containers_storage.store.snapshot import Snapshot, Stored
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Puller"]

_log = structlog.get_logger(__name__)

_ATTEMPTS = 3
_LEAVE_SECONDS = 0.9
_CLOSE_SECONDS = 3.0
_ASKING_AT_ONCE = 3
# Two levels down: what lies higher in a pull's folder is taken for what it has downloaded.
_CONFIGURATION = "told/skopeo"


@dataclass(frozen=True, slots=True)
class _Order:
    """One pull as it is carried out.

    Attributes:
        reference: what is pulled.
        rules: by which its registry is asked.
        credentials: with what.
        folder: for downloads.
        watch: tells how far it is.
        namespace: of the pod.
        signature: see `Question`.
        counted: the registry counts who fetches a manifest.
    """

    reference: Reference
    rules: Rules
    credentials: ResolvedCredentials
    folder: Path
    watch: Watch
    namespace: str
    signature: object
    counted: bool

    @property
    def question(self) -> Question:
        """What its registry is asked."""
        return Question(self.reference, self.rules, self.credentials, self.folder, self.namespace, self.signature)


class Puller:
    """Pulls into one store.

    Args:
        layout: the store.
        rules: finds by which rules a registry is asked.
        credentials: finds with which credentials.
        store: what is here.
        skopeo: copies.
        manifests: asks registries what they have.
        access: keeps copies and deletions apart.
        registries: what registries.conf says.
        changes: takes back what must not stay.
        leftovers: gives back what found no space.
        work: for downloads.
        skip_unchanged: whether to copy nothing where the registry has what is here.
    """

    def __init__(
        self,
        layout: Layout,
        rules: RuleFinder,
        credentials: CredentialResolver,
        store: Store,
        skopeo: Skopeo,
        manifests: ManifestSource,
        access: StoreAccess,
        registries: CurrentRegistries,
        changes: StoreChanges,
        leftovers: Leftovers,
        work: WorkFolder,
        *,
        skip_unchanged: bool,
    ) -> None:
        self._layout = layout
        self._rules = rules
        self._credentials = credentials
        self._store = store
        self._skopeo = skopeo
        self._manifests = manifests
        self._access = access
        # Files that hang keep one thread, not one for each pull that is begun meanwhile.
        self._configurations = Rounds(
            lambda: anyio.to_thread.run_sync(registries.for_pull), "look at registries.conf for pulls"
        )
        self._changes = changes
        self._leftovers = leftovers
        self._work = work
        self._background = BackgroundTasks()
        self._skip_unchanged = skip_unchanged
        # Hundreds of slow pulls at once must not start hundreds of processes more, only to tell their totals.
        self._asking = anyio.CapacityLimiter(_ASKING_AT_ONCE)

    async def pull(
        self, reference: Reference, credentials: Credentials | None, namespace: str, report: ProgressReporter
    ) -> Image:
        """Pull one image, see `criimage.backend.Backend.pull`.

        Cancelled, it leaves within a second. A commit that has begun by then is finished or taken back afterwards.
        """
        work = self._pull(reference, credentials, namespace, Watch(report, self._layout))
        return await self._background.result(work, _LEAVE_SECONDS)

    async def close(self) -> None:
        """Stop what still runs, and give what has to be finished a moment for that."""
        self._configurations.close()
        self._manifests.stop()
        await self._background.close(_CLOSE_SECONDS)
        await self._manifests.close()

    async def _pull(self, reference: Reference, credentials: Credentials | None, namespace: str, watch: Watch) -> Image:
        watch.tell(Phase.RESOLVING)
        configuration = await self._configurations.answer()
        registries = configuration.registries
        registry = registries.find(reference)
        if registry is not None and registry.blocked and not registry.mirrored(reference):
            # skopeo looks at the rewritten name only (C5).
            raise PullError(f"registry {registry.prefix} is blocked in {registries.source}: {reference}")
        try:
            async with self._work.for_one_pull() as folder:
                rules, resolved = await anyio.to_thread.run_sync(
                    self._found, configuration, reference, credentials, namespace, folder
                )
                watch.use(resolved.source)
                counted = registries.asks_docker_hub(reference)
                order = _Order(reference, rules, resolved, folder, watch, namespace, configuration.signature, counted)
                image = await self._unchanged(order) or await self._copy(order)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"no space left on device: {reference}") from error
            where = f"{without_own_places(str(error.filename))}: " if error.filename else ""
            if str(error.filename or "").startswith(str(self._work.path)):
                where = "the folder for downloads (tmp_dir): "
            reason = error.strerror or type(error).__name__
            raise OperationFailed(f"cannot pull {reference}: {where}{reason}") from error
        watch.tell(Phase.DONE)
        return image

    def _found(
        self,
        configuration: Configuration,
        reference: Reference,
        credentials: Credentials | None,
        namespace: str,
        folder: Path,
    ) -> tuple[Rules, ResolvedCredentials]:
        """Return how to ask for an image, and with what. Blocks on small files; in one thread, for each costs time."""
        rules = self._rules.find(reference, namespace)
        resolved = self._credentials.resolve(reference, credentials, configuration.registries, namespace)
        told = self._rules.tell(configuration, reference, resolved, folder / _CONFIGURATION)
        return replace(rules, told=told), resolved

    async def _unchanged(self, order: _Order) -> Image | None:
        """Return the stored image if the registry still has exactly that under the name (P5-P9).

        One request answers P4, P7 and P9; a registry that cannot be asked is left to the copy, whose error counts (P5).
        """
        # A manifest is counted against the caller: a copy that finds all layers here asks for it once.
        if order.counted or not (self._skip_unchanged and order.rules.unconditional):
            return None
        stored = _holder(await self._store.now(), order.reference)
        if stored is None or stored.facts.fault or not stored.whole:
            return None
        same, outcome = await self._manifests.still_has(order.question, stored, order.watch.hear)
        if outcome.code != 0:
            error = pull_failure(outcome, str(order.reference), secrets=order.credentials.secrets)
            if isinstance(error, RateLimited):
                # It has been asked several times by now.
                raise error
        if not same:
            return None
        # Somebody may have removed it while the registry was asked.
        now = _holder(await self._store.now(), order.reference)
        if now is None or now.image.id != stored.image.id or not now.whole:
            return None
        _log.debug("nothing to copy: the registry has what is here", image=str(order.reference))
        order.watch.unchanged(LayersToFetch((), len(set(now.facts.diff_ids))))
        return now.image

    async def _copy(self, order: _Order) -> Image:
        for left in reversed(range(_ATTEMPTS)):
            stored, outcome = await self._attempt(order)
            if stored is not None:
                return stored.image
            if not left and outcome.code == 0:
                raise OperationFailed(f"the image was removed while it was pulled: {order.reference}")
            # T10: another tool's deletion took a layer that this copy had counted on.
            if outcome.code != 0 and (not left or LAYER_GONE not in last_words(outcome)):
                raise await self._failure(order, outcome)
        raise AssertionError  # the last attempt returns or raises

    async def _attempt(self, order: _Order) -> tuple[Stored | None, Outcome]:
        """Copy once. What comes of it is looked at whether or not somebody still waits: it must not stay unseen."""
        async with self._access.shared(lambda: order.watch.tell(Phase.WAITING_FOR_STORE)):
            order.watch.goes_on()
            earlier = await self._store.now()
            present = {layer.blob_digest for layer in earlier.layers.values() if not layer.incomplete}
            entry = await self._leftovers.begin(order.folder)
            outcome: Outcome | None = None
            try:
                outcome = await self._watched_copy(order, present, entry)
            finally:
                # Cut short, it may have committed half of an image, or all of it.
                if outcome is None:
                    self._background.start(self._after_a_cut(order.reference, earlier, entry))
        stored = await finish(self._after(order, earlier, entry, outcome))
        if stored is not None:
            if _same(_holder(earlier, order.reference), stored):
                order.watch.unchanged(LayersToFetch((), len(set(stored.facts.diff_ids))))
            else:
                order.watch.complete(await anyio.to_thread.run_sync(_fetched, stored, present))
        return stored, outcome

    async def _after(self, order: _Order, earlier: Snapshot, entry: Entry, outcome: Outcome) -> Stored | None:
        """Return what a copy that has ended has brought; what else it has left is taken care of."""
        stored = None
        try:
            if outcome.code == 0:
                stored = await self._arrived(order.reference, earlier)
        finally:
            if stored is not None:
                await self._leftovers.nothing_left(entry)
            else:
                await self._leftovers.after(entry, at_once=_is_full(order, outcome))
        return stored

    async def _after_a_cut(self, reference: Reference, earlier: Snapshot, entry: Entry) -> None:
        with contextlib.suppress(CriimageError):
            await self._arrived(reference, earlier)
        await self._leftovers.after(entry)

    async def _watched_copy(self, order: _Order, present: Collection[str], entry: Entry) -> Outcome:
        watching = asyncio.create_task(order.watch.run(order.folder, lambda: self._layers(order, present)))
        try:
            return await self._skopeo.copy(
                order.reference,
                order.rules,
                order.credentials,
                order.folder,
                entry,
                order.watch.started,
                order.watch.hear,
            )
        finally:
            watching.cancel()
            with anyio.CancelScope(shield=True):
                cancelled = await settled(watching)
            if not watching.cancelled() and (fault := watching.exception()) is not None:
                _log.warning("a pull's progress could not be watched", error=repr(fault))
            if cancelled:
                raise asyncio.CancelledError

    async def _layers(self, order: _Order, present: Collection[str]) -> LayersToFetch | None:
        """Ask what there is to fetch, or return None where that is not known.

        Done for pulls that take a while, and never where fetching a manifest is counted against the caller.
        """
        if order.counted:
            return None
        async with self._asking:
            return layers_to_fetch(await self._manifests.manifest(order.question), present)

    async def _failure(self, order: _Order, outcome: Outcome) -> CriimageError:
        """Return what a copy failed with."""
        error = pull_failure(outcome, str(order.reference), secrets=order.credentials.secrets)
        if order.credentials.anonymous and isinstance(error, AccessDenied):
            # No auth file holds a registry token, and nowhere else may a secret stand.
            return error.with_text(f"{error.text}; a registry token alone cannot be sent by this backend")
        if isinstance(error, ContentInvalid) and is_encrypted(await self._manifests.manifest(order.question)):
            # To skopeo without keys it looks damaged, in one way or another (P16).
            return error.with_text(f"the image is encrypted, and there is no key for it: {order.reference}")
        return error

    async def _arrived(self, reference: Reference, earlier: Snapshot) -> Stored | None:
        """Return what a copy brought, or None if it is gone again.

        What cannot be read is refused (S18): nobody could use it. So is an image whose config promises other layers
        than came (T16); skopeo 1.9.3 stores it without a word.
        """
        snapshot = await self._store.now()
        stored = _holder(snapshot, reference)
        if stored is None:
            return None
        if not stored.whole:
            return None  # a layer that it counted on is gone: another copy brings it
        if stored.facts.unread:
            # It may be good: nothing is deleted because it could not be read now.
            raise OperationFailed(f"what came cannot be read now ({stored.facts.fault}): {reference}")
        if stored.facts.fault:
            fault = f"the image's manifest or config cannot be read ({stored.facts.fault})"
        elif stored.facts.config_digest and stored.facts.diff_ids != _layer_digests(stored, snapshot):
            fault = "the layers do not match the image's config"
        else:
            return stored
        known = stored.image.id.hex in earlier.by_id or stored.image.id.hex in earlier.hidden
        await self._changes.undo(reference, stored, _holder(earlier, reference), known=known)
        raise ContentInvalid(f"{fault}: {reference}")


def _holder(snapshot: Snapshot, reference: Reference) -> Stored | None:
    """Return the image that has this very name in the store."""
    found = snapshot.by_name.get(reference)
    return found if found is not None and reference in found.names else None


def _is_full(order: _Order, outcome: Outcome) -> bool:
    if outcome.code == 0:
        return False
    return isinstance(pull_failure(outcome, str(order.reference), secrets=order.credentials.secrets), StorageFull)


def _same(before: Stored | None, now: Stored) -> bool:
    """Tell whether a copy has brought nothing that was not here."""
    return before is not None and before.whole and not before.facts.fault and before.image == now.image


def _fetched(stored: Stored, present: Collection[str]) -> LayersToFetch | None:
    """Return what was fetched for a stored image where `present` was here before; None if it is gone. Blocks."""
    try:
        return layers_to_fetch((stored.folder / "manifest").read_bytes(), present)
    except OSError:
        return None


def _layer_digests(stored: Stored, snapshot: Snapshot) -> tuple[str, ...]:
    found: list[str] = []
    layer = stored.record.layer
    while layer in snapshot.layers and len(found) < len(snapshot.layers):
        found.append(snapshot.layers[layer].diff_digest)
        layer = snapshot.layers[layer].parent
    return tuple(reversed(found))
