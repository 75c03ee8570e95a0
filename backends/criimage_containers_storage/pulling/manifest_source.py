"""What a registry has under a name: asked through a proxy that is kept up, else by a skopeo for each question."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from criimage_containers_storage.pulling.manifests import instances, is_stored, is_stored_as
from criimage_containers_storage.pulling.process import Outcome
from criimage_containers_storage.pulling.proxy_protocol import Found, RefusedError, ask_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from criimage.reference import Reference
    from criimage_containers_storage.pulling.proxies import Proxies, Way
    from criimage_containers_storage.pulling.proxy import Proxy
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.registries.credentials import ResolvedCredentials
    from criimage_containers_storage.registries.rules import Rules
    from criimage_containers_storage.store.snapshot import Stored

__all__ = ["ManifestSource", "Question"]

_REFUSED = 1
_ANSWERED = Outcome(0, b"", "")


@dataclass(frozen=True, slots=True)
class Question:
    """Which image a registry is asked for, and how.

    Attributes:
        reference: the image.
        rules: by which it is asked.
        credentials: with what.
        folder: of this pull.
        namespace: of the pod.
        signature: changes when registries.conf does; None if that cannot be told.
    """

    reference: Reference
    rules: Rules
    credentials: ResolvedCredentials
    folder: Path
    namespace: str = ""
    signature: object = field(default=None, repr=False)


class ManifestSource:
    """Asks registries.

    Args:
        skopeo: asks where no proxy can.
        proxies: None where none is to be kept up.
        folder: by which proxies are found when we have been killed.
    """

    def __init__(self, skopeo: Skopeo, proxies: Proxies | None, folder: Path) -> None:
        self._skopeo = skopeo
        self._proxies = proxies
        self._folder = folder

    async def still_has(self, question: Question, stored: Stored, heard: Callable[[str], None]) -> tuple[bool, Outcome]:
        """Tell whether pulling would give exactly what is stored (P6-P9), with how the registry's answer came.

        Args:
            question: which image.
            stored: what is here under its name.
            heard: told what skopeo says meanwhile.
        """
        if question.reference.digest or len(stored.facts.digests) == 1:
            found = await self._by_proxy(question, heard)
            if isinstance(found, Outcome):
                return False, found
            if found is not None:
                return is_stored_as(found, stored), _ANSWERED
        outcome = await self._skopeo.top_manifest(
            question.reference, question.rules, question.credentials, question.folder, heard
        )
        return outcome.code == 0 and is_stored(outcome.out, stored), outcome

    async def manifest(self, question: Question) -> bytes:
        """Fetch the manifest for this machine, or what comes in its place."""
        if question.rules.unconditional:
            found = await self._by_proxy(question, None)
            if isinstance(found, Found):
                return found.manifest
            if found is not None:
                return b""
        outcome = await self._top(question, question.reference)
        listed = instances(outcome.out)
        if len(listed) == 1:
            outcome = await self._top(question, question.reference.with_digest(listed[0]))
        return outcome.out

    async def close(self) -> None:
        """End the proxies."""
        if self._proxies is not None:
            await self._proxies.close()

    async def _top(self, question: Question, reference: Reference) -> Outcome:
        return await self._skopeo.top_manifest(reference, question.rules, question.credentials, question.folder)

    async def _by_proxy(self, question: Question, heard: Callable[[str], None] | None) -> Found | Outcome | None:
        """Return what a proxy has found, or how it has failed to; None if none can tell."""
        if self._proxies is None or question.signature is None or _is_its_own(question):
            return None
        way = await anyio.to_thread.run_sync(self._way, question)

        async def ask(proxy: Proxy) -> Found:
            return await ask_manifest(proxy, question.reference)

        try:
            return await self._proxies.ask(way, ask, question.credentials.auth, heard)
        except RefusedError as error:
            words, said = error.args
            # As it would have come from a process of its own.
            return Outcome(_REFUSED, b"", f"{said}\nlevel=fatal msg={json.dumps(words)}\n")

    def _way(self, question: Question) -> Way:
        way = self._skopeo.way(question.rules, question.credentials, self._folder, question.namespace)
        return replace(way, files=(question.signature, way.files))


def _is_its_own(question: Question) -> bool:
    """Tell whether this pull has files of its own that skopeo is told about."""
    told = question.rules.told
    return any(str(question.folder) in text for text in (*told.flags, *told.environment.values()))
