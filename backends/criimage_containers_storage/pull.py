"""One pull: ask the registry, skip or copy, look at what came (cri-o sections 2, 3 and 10)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog

from criimage.backend import Phase, PullProgress
from criimage.errors import AccessDenied, ContentInvalid, OperationFailed, PullError, StorageFull
from criimage_containers_storage.auth_files import default_files, render, sendable
from criimage_containers_storage.failures import LAYER_GONE, last_words, pull_failure
from criimage_containers_storage.policy import accepts_anything, find_policy, read_policy
from criimage_containers_storage.progress import Watch
from criimage_containers_storage.skopeo import Access
from criimage_containers_storage.work_folder import for_one_pull

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.backend import Image, ProgressReporter
    from criimage.credentials import Credentials
    from criimage.reference import Reference
    from criimage_containers_storage.gate import Gate
    from criimage_containers_storage.names import Resolver
    from criimage_containers_storage.registries import Registries
    from criimage_containers_storage.removal import Remover
    from criimage_containers_storage.settings import Settings
    from criimage_containers_storage.skopeo import Skopeo
    from criimage_containers_storage.store import Snapshot, Store, Stored

__all__ = ["Puller"]

_log = structlog.get_logger(__name__)

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}
_NO_SPACE = 28
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class _Order:
    """One pull as it is carried out."""

    reference: Reference
    access: Access
    folder: Path
    secrets: tuple[str, ...]
    may_skip: bool


class Puller:
    """Pulls into one store."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        store: Store,
        skopeo: Skopeo,
        gate: Gate,
        resolver: Resolver,
        remover: Remover,
        folder: Path,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._store = store
        self._skopeo = skopeo
        self._gate = gate
        self._resolver = resolver
        self._remover = remover
        self._folder = folder

    async def pull(self, reference: Reference, credentials: Credentials | None, report: ProgressReporter) -> Image:
        """Pull one image, see `criimage.backend.Backend.pull`."""
        report(PullProgress(Phase.RESOLVING))
        registries = await self._resolver.registries()
        registry = registries.find(reference)
        if registry is not None and registry.blocked:
            # skopeo looks at the rewritten name only (C5).
            raise PullError(f"registry {registry.prefix} is blocked in {registries.source}: {reference}")
        try:
            async with for_one_pull(self._folder) as folder:
                access, may_skip = await anyio.to_thread.run_sync(self._prepare, reference, credentials, registries)
                order = _Order(reference, access, folder, _secrets(credentials), may_skip)
                image = await self._unchanged(order) or await self._copy(order, report)
        except OSError as error:
            if error.errno == _NO_SPACE:
                raise StorageFull(f"no space left on device: {reference}") from error
            raise OperationFailed(f"cannot pull {reference}: {error.strerror or type(error).__name__}") from error
        report(PullProgress(Phase.DONE))
        return image

    def _prepare(
        self, reference: Reference, credentials: Credentials | None, registries: Registries
    ) -> tuple[Access, bool]:
        policy_file = find_policy(self._settings.policy, self._environment)
        policy = read_policy(policy_file)
        auth = b""
        if credentials is not None and sendable(credentials):
            # Mirrors on other hosts never get what the caller sent for this one (A10).
            asked = [one for one in registries.endpoints(reference) if one.partition("/")[0] == reference.domain]
            chosen = self._settings.auth_file
            others = [Path(chosen)] if chosen else default_files(self._environment, uid=os.getuid())
            auth = render(credentials, [reference.repository, *asked], others)
        conf = Path(registries.source)
        access = Access(
            policy_file,
            conf if conf.exists() else None,
            auth,
            self._settings.auth_file,
            credentials is not None and not auth,
            self._settings.certs_dir,
        )
        return access, self._settings.skip_unchanged and accepts_anything(policy, reference)

    async def _unchanged(self, order: _Order) -> Image | None:
        """Return the stored image if the registry still has exactly that under the name (P5-P9).

        Equal bytes of the registry's manifest or index mean an equal config digest (P7), so one request answers P4, P7
        and both conditions of P9. A registry that cannot be asked is left to the copy, whose error counts (P5).
        """
        stored = _holder(await self._store.snapshot(), order.reference) if order.may_skip else None
        if stored is None or not stored.whole:
            return None
        outcome = await self._skopeo.top_manifest(order.reference, order.access, order.folder)
        if outcome.code != 0 or not _same(outcome.out, stored):
            return None
        # Somebody may have removed it while the registry was asked.
        now = _holder(await self._store.snapshot(), order.reference)
        if now is None or now.image.id != stored.image.id or not now.whole:
            return None
        _log.debug("nothing to copy: the registry has what is here", image=str(order.reference))
        return now.image

    async def _copy(self, order: _Order, report: ProgressReporter) -> Image:
        for left in reversed(range(_ATTEMPTS)):
            before = _holder(await self._store.snapshot(), order.reference)
            async with self._gate.copying():
                outcome = await self._watched_copy(order, report)
            if outcome.code == 0:
                snapshot = await self._store.snapshot()
                stored = _holder(snapshot, order.reference)
                if stored is not None:
                    await self._verify(order.reference, stored, before, snapshot)
                    return stored.image
                if not left:
                    raise OperationFailed(f"the image was removed while it was pulled: {order.reference}")
            # T10: another tool's deletion took a layer that this copy had counted on.
            elif not left or LAYER_GONE not in last_words(outcome):
                error = pull_failure(outcome, str(order.reference), secrets=order.secrets)
                if order.access.anonymous and isinstance(error, AccessDenied):
                    # No auth file holds a registry token, and nowhere else may a secret stand.
                    raise error.with_text(f"{error.text}; a registry token alone cannot be sent by this backend")
                raise error
        raise AssertionError  # the last attempt returns or raises

    async def _watched_copy(self, order: _Order, report: ProgressReporter) -> Any:  # noqa: ANN401
        watch = Watch(order.folder, report)
        watching = asyncio.create_task(watch.run())
        try:
            return await self._skopeo.copy(
                order.reference, order.access, order.folder, lambda process: setattr(watch, "process", process)
            )
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({watching})

    async def _verify(self, reference: Reference, stored: Stored, before: Stored | None, snapshot: Snapshot) -> None:
        """Refuse an image whose config promises other layers than came (T16): skopeo 1.9.3 stores it without a word."""
        promised = stored.facts.diff_ids
        if not stored.facts.config_digest or promised == _layer_digests(stored, snapshot):
            return
        await self._remover.undo(reference, stored, before)
        raise ContentInvalid(f"the layers do not match the image's config: {reference}")


def _holder(snapshot: Snapshot, reference: Reference) -> Stored | None:
    """Return the image that has this very name in the store."""
    found = snapshot.by_name.get(reference)
    return found if found is not None and reference in found.names else None


def _same(manifest: bytes, stored: Stored) -> bool:
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    if digest == stored.record.manifest_digest:
        return bool(stored.facts.config_digest)
    if digest not in stored.facts.digests:
        return False
    try:
        listed = json.loads(manifest).get("manifests") or ()
        ours = [entry["digest"] for entry in listed if _fits(entry.get("platform") or {})]
    except (ValueError, AttributeError, KeyError, TypeError):
        return False
    # Several for this machine differ in a variant that only skopeo can choose.
    return ours == [stored.record.manifest_digest]


def _fits(wanted: Mapping[str, object]) -> bool:
    machine = platform.machine()
    return wanted.get("os") == "linux" and wanted.get("architecture") == _GO_ARCHITECTURES.get(machine, machine)


def _layer_digests(stored: Stored, snapshot: Snapshot) -> tuple[str, ...]:
    found: list[str] = []
    layer = stored.record.layer
    while layer in snapshot.layers and len(found) < len(snapshot.layers):
        found.append(snapshot.layers[layer].diff_digest)
        layer = snapshot.layers[layer].parent
    return tuple(reversed(found))


def _secrets(credentials: Credentials | None) -> tuple[str, ...]:
    if credentials is None:
        return ()
    return credentials.password, credentials.identity_token, credentials.registry_token
