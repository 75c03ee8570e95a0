"""What a registry has under a name: asked through a proxy that is kept up, else by a skopeo for each question."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
import anyio.to_thread

from criimage.files import is_there
from criimage_containers_storage.pulling.manifests import instances, is_stored, is_stored_as
from criimage_containers_storage.pulling.process import Outcome
from criimage_containers_storage.pulling.proxy_protocol import (
    VERSION_WITH_POLICY,
    Found,
    RefusedError,
    UnansweredError,
    UselessError,
    ask_digest,
    ask_manifest,
)
from criimage_containers_storage.store.records import big_data_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from criimage.reference import Reference
    from criimage_containers_storage.pulling.proxies import Proxies, ProxySetup
    from criimage_containers_storage.pulling.proxy import Proxy
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.registries.credentials import ResolvedCredentials
    from criimage_containers_storage.registries.rules import Rules
    from criimage_containers_storage.store.snapshot import Stored

__all__ = ["ManifestSource", "Question"]

_REFUSED = 1
_SILENT_LIMIT = 100
# Each leaves a connection to its registry behind, until the proxy ends.
_UNSIGNED_QUESTIONS = 30
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
        self._lookaside = folder / "signatures"
        self._too_old: object = None
        self._silent: set[str] = set()

    async def still_has(self, question: Question, stored: Stored, heard: Callable[[str], None]) -> tuple[bool, Outcome]:
        """Tell whether pulling would give exactly what is stored (P6-P9), with how the registry's answer came.

        Args:
            question: which image.
            stored: what is here under its name.
            heard: told what skopeo says meanwhile.
        """
        # What a tag leads to tells which index it is only where the image has never had one.
        by_leaf = bool(question.reference.digest) or len(stored.facts.digests) == 1
        found = await self._by_proxy(question, heard, unsigned=not by_leaf)
        if isinstance(found, Outcome):
            return False, found
        if found is not None and by_leaf:
            return is_stored_as(found, stored), _ANSWERED
        if found is not None:
            content = await anyio.to_thread.run_sync(_stored_manifest, stored, found.top)
            return is_stored(content, stored), _ANSWERED
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

    def stop(self) -> None:
        """End the proxies, also those that are asked now."""
        if self._proxies is not None:
            self._proxies.stop()

    async def close(self) -> None:
        """End the proxies, and wait for that."""
        if self._proxies is not None:
            await self._proxies.close()

    async def _top(self, question: Question, reference: Reference) -> Outcome:
        return await self._skopeo.top_manifest(reference, question.rules, question.credentials, question.folder)

    async def _by_proxy(
        self, question: Question, heard: Callable[[str], None] | None, *, unsigned: bool = False
    ) -> Found | Outcome | None:
        """Return what a proxy has found, or how it has failed to; None if none can tell."""
        if self._proxies is None or question.signature is None or _is_its_own(question):
            return None
        if unsigned and question.reference.domain in self._silent:
            return None
        setup = await anyio.to_thread.run_sync(self._unsigned_setup if unsigned else self._setup, question)
        if unsigned and setup.files == self._too_old:
            return None

        async def ask(proxy: Proxy) -> Found:
            if not unsigned:
                return await ask_manifest(proxy, question.reference)
            if proxy.version < VERSION_WITH_POLICY:
                self._too_old = setup.files
                raise UselessError("this skopeo asks no policy")
            try:
                return await ask_digest(proxy, question.reference, self._lookaside)
            except UnansweredError:
                # It has a way of its own to give signatures out.
                self._silent = {*list(self._silent)[-_SILENT_LIMIT:], question.reference.domain}
                raise

        try:
            return await self._proxies.ask(setup, ask, question.credentials.auth, heard)
        except RefusedError as error:
            words, said = error.args
            # As it would have come from a process of its own.
            return Outcome(_REFUSED, b"", f"{said}\nlevel=fatal msg={json.dumps(words)}\n")

    def _setup(self, question: Question) -> ProxySetup:
        setup = self._skopeo.proxy_setup(question.rules, question.credentials, self._folder, question.namespace)
        return replace(setup, files=(question.signature, setup.files))

    def _unsigned_setup(self, question: Question) -> ProxySetup:
        """Return the setup of a proxy for `ask_digest`: it wants signatures, and there are none."""
        policy, registries = self._folder / "policy.json", self._folder / "registries.d"
        if not is_there(registries / "default.yaml"):
            registries.mkdir(0o700, parents=True, exist_ok=True)
            # No key has to be a good one where there is nothing to check.
            key = base64.b64encode(b"none").decode()
            wanted = {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyData": key}]}
            policy.write_text(json.dumps(wanted))
            place = json.dumps(f"file://{quote(str(self._lookaside))}")
            (registries / "default.yaml").write_text(f"default-docker:\n  lookaside: {place}\n")
        setup = self._setup(replace(question, rules=replace(question.rules, policy=policy)))
        program, *rest = setup.command
        return replace(
            setup, command=(program, "--registries.d", str(registries), *rest), questions=_UNSIGNED_QUESTIONS
        )


def _stored_manifest(stored: Stored, digest: str) -> bytes:
    """Return the manifest or index that the store has under this digest; nothing if it has none. Blocks."""
    if digest == stored.record.manifest_digest:
        name = "manifest"
    elif digest in stored.facts.digests:
        name = big_data_file(f"manifest-{digest}")
    else:
        return b""
    try:
        return (stored.folder / name).read_bytes()
    except OSError:
        return b""


def _is_its_own(question: Question) -> bool:
    """Tell whether this pull has files of its own that skopeo is told about."""
    told = question.rules.told
    return any(str(question.folder) in text for text in (*told.flags, *told.environment.values()))
