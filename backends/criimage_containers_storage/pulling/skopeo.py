"""The calls of skopeo that we make (cri-o section 10)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
from types import MappingProxyType
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile, entries_of
from criimage_containers_storage.pulling.process import run
from criimage_containers_storage.pulling.proxies import ProxySetup
from criimage_containers_storage.registries.auth_files import in_memory
from criimage_containers_storage.store.busy import lock_use, other_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from criimage.reference import ImageID, Reference
    from criimage_containers_storage.pulling.journal import Entry
    from criimage_containers_storage.pulling.process import Outcome
    from criimage_containers_storage.registries.credentials import ResolvedCredentials
    from criimage_containers_storage.registries.rules import Rules
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Skopeo"]

# With the time that it takes to stop a deaf tool (process.py) less than the five seconds in which a server ends.
_DELETE_PATIENCE = 2.0
_TRY_OUT_PATIENCE = 2.0
_COMMIT_PATIENCE = 2.0
_LAYER_PATIENCE = 30.0
_LOOK_SECONDS = 0.005

# skopeo lives for a moment and reads the whole store's records in it: collecting garbage less often saves a fifth of
# a copy's CPU on a store of some hundred images and costs ten megabytes at most, however large the layers. What the
# service's own environment says wins.
_FOR_ALL = {"GOGC": "400"}
# One request and one document: more threads only add to what starting costs.
_FOR_INSPECT = {"GOMAXPROCS": "1"}
# What a Go program reads once, or once in some seconds: authorities (crypto/x509), and how names are looked up.
_READ_ONCE = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
)
_NAMED = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Skopeo:
    """Runs skopeo on one store."""

    def __init__(self, layout: Layout, environment: Mapping[str, str], program: str = "skopeo") -> None:
        self._layout = layout
        self._environment = {**_FOR_ALL, **environment}
        self._program = program
        self._trying_out = asyncio.Lock()
        self._tried_out = asyncio.Event()
        self._running: set[int] = set()

    async def top_manifest(
        self,
        reference: Reference,
        rules: Rules,
        credentials: ResolvedCredentials,
        folder: Path,
        heard: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Fetch the manifest or index that the registry has under this name, as `Outcome.out` (T5).

        Args:
            reference: the image.
            rules: how to ask.
            credentials: with what.
            folder: for downloads.
            heard: told what skopeo says meanwhile.
        """
        with _login(rules, credentials, "") as (flags, descriptors):
            command = [*self._start(rules, folder), "inspect", "--raw", *flags, f"docker://{reference}"]
            return await self._run(command, descriptors, heard=heard, more=_FOR_INSPECT, told=rules.told.environment)

    def proxy_setup(self, rules: Rules, credentials: ResolvedCredentials, folder: Path, namespace: str) -> ProxySetup:
        """Return the setup of a proxy that asks as `top_manifest` would. Blocks on some stats.

        Args:
            rules: how to ask.
            credentials: with what; here only where they come from counts.
            folder: by which it is found when we have been killed; not made.
            namespace: of the pod.
        """
        environment = {**_FOR_INSPECT, **self._environment, **rules.told.environment}
        program = shutil.which(self._program, path=environment.get("PATH")) or self._program
        named = (environment.get(name, "") for name in _NAMED)
        return ProxySetup(
            (*self._start(rules, folder), "experimental-image-proxy"),
            tuple(_flags(rules, credentials, "")),
            tuple(sorted(environment.items())),
            bool(credentials.auth),
            namespace,
            tuple(map(_stat, (program, *_READ_ONCE, *named))),
            _stat(str(rules.policy)),
        )

    async def try_out_store(self, started: Callable[[int], None]) -> None:
        """Let the driver try out what this kernel can, where that has not been done since the last restart.

        An overlay store's first user mounts a test or two inside the store. Cancelled in that moment, skopeo would
        leave the mounts behind, so this is done by a run of its own that nobody interrupts.

        Args:
            started: told the process ID.
        """
        if self._layout.driver != "overlay" or self._tried_out.is_set():
            return
        async with self._trying_out:
            if not self._tried_out.is_set() and not await anyio.to_thread.run_sync(self._results_are_there):
                nothing = self.stored("@" + "0" * 64)
                command = [self._program, "inspect", "--raw", nothing]
                await self._run(command, (), patience=_TRY_OUT_PATIENCE, started=started, more=_FOR_INSPECT)
            self._tried_out.set()

    def _results_are_there(self) -> bool:
        # The last result that the driver writes down (containers-storage 1.43, drivers/overlay).
        try:
            return bool(entries_of(self._layout.run_root / self._layout.driver, "native-diff"))
        except UnreadableFile:
            return False

    async def copy(
        self,
        reference: Reference,
        rules: Rules,
        credentials: ResolvedCredentials,
        folder: Path,
        entry: Entry,
        started: Callable[[int], None],
        heard: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Copy an image from its registry into the store under its own name (T4).

        Cancelled, it is stopped at once; if it commits already, it is given a moment to finish that.

        Args:
            reference: the image.
            rules: how to ask.
            credentials: with what.
            folder: for downloads; emptied by the caller whatever happens.
            entry: of the journal; its file takes what skopeo says that it copies.
            started: told the process ID.
            heard: told what skopeo says meanwhile.
        """
        await self.try_out_store(started)
        with _login(rules, credentials, "src-") as (flags, descriptors):
            # Not quietly: it names every layer as it begins with it (journal.py).
            verb = ["copy", *flags, f"docker://{reference}", self.stored(str(reference))]
            command = [*self._start(rules, folder), *verb]
            return await self._run(
                command,
                descriptors,
                patience=functools.partial(self._until_it_may_be_stopped, entry),
                started=functools.partial(_notice, entry, started),
                heard=heard,
                out=entry.lines,
                told=rules.told.environment,
            )

    async def store_folder(self, folder: Path, identity: ImageID) -> Outcome:
        """Store an image that lies in a folder, without a name; the folder holds the policy for that as well."""
        policy = ["--policy", str(folder / "policy.json"), "--tmpdir", str(folder)]
        command = [self._program, *policy, "copy", "-q", f"dir:{folder}", self.stored(f"@{identity.hex}")]
        return await self._run(command, (), patience=_DELETE_PATIENCE)

    async def delete(self, identity: ImageID) -> Outcome:
        """Delete an image with all its names; refuses while a container uses it, and then changes nothing.

        A deletion that has begun is not interrupted for some seconds: half of it would leave layers of no image.
        """
        command = [self._program, "delete", self.stored(f"@{identity.hex}")]
        return await self._run(command, (), patience=_DELETE_PATIENCE)

    @property
    def running(self) -> frozenset[int]:
        """The process groups of the calls that run now."""
        return frozenset(self._running)

    async def _until_it_may_be_stopped(self, entry: Entry) -> None:
        """Wait until a copy can be stopped without harm to anybody, within limits.

        A commit that has begun is nearly done. While a layer is written, whoever waits for the same one finds it in the
        store as soon as the writer is gone, and skopeo 1.9 counts on it although it is not whole (seen: an image that
        has lost a layer). So with others at work on the store the layer is finished first.
        """
        if await anyio.to_thread.run_sync(entry.commits):
            await asyncio.sleep(_COMMIT_PATIENCE)
            return
        leader = entry.process
        if not leader or not await anyio.to_thread.run_sync(other_tools, self._layout, (leader,)):
            return
        with anyio.move_on_after(_LAYER_PATIENCE):
            while leader in (await anyio.to_thread.run_sync(lock_use, self._layout)).writers:  # noqa: ASYNC110 - a kernel's file
                await asyncio.sleep(_LOOK_SECONDS)

    def stored(self, name: str) -> str:
        """Return what skopeo calls an image of our store (T2)."""
        return f"containers-storage:{self._layout.spec}{name}"

    def _start(self, rules: Rules, folder: Path) -> list[str]:
        # Only then it tells that a registry asks to wait (failures.seconds_to_wait).
        return [self._program, "--debug", *rules.told.flags, "--policy", str(rules.policy), "--tmpdir", str(folder)]

    async def _run(
        self,
        command: Sequence[str],
        descriptors: Sequence[int],
        *,
        patience: float | Callable[[], Coroutine[None, None, None]] = 0.0,
        started: Callable[[int], None] | None = None,
        heard: Callable[[str], None] | None = None,
        out: Path | None = None,
        more: Mapping[str, str] = _NOTHING,
        told: Mapping[str, str] = _NOTHING,
    ) -> Outcome:
        leader = 0

        def notice(process: int) -> None:
            nonlocal leader
            leader = process
            self._running.add(process)
            if started is not None:
                started(process)

        try:
            return await run(
                command,
                environment={**more, **self._environment, **told},
                descriptors=descriptors,
                patience=patience,
                started=notice,
                heard=heard,
                out=out,
            )
        except FileNotFoundError:
            raise ConfigurationError("skopeo is not installed; install the package skopeo") from None
        finally:
            self._running.discard(leader)


@contextlib.contextmanager
def _login(rules: Rules, credentials: ResolvedCredentials, side: str) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    flags = _flags(rules, credentials, side)
    if credentials.auth:
        with in_memory(credentials.auth) as descriptor:
            yield [*flags, f"--{side}authfile", f"/proc/self/fd/{descriptor}"], (descriptor,)
    else:
        yield flags, ()


def _flags(rules: Rules, credentials: ResolvedCredentials, side: str) -> list[str]:
    """Return all but the file in memory that a request's own credentials are in."""
    flags = [f"--{side}cert-dir", rules.certs_dir] if rules.certs_dir else []
    if credentials.auth:
        return flags
    if credentials.anonymous:
        return [*flags, f"--{side}no-creds"]
    return [*flags, f"--{side}authfile", credentials.auth_file] if credentials.auth_file else flags


def _stat(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - a dozen of them for each question
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _notice(entry: Entry, started: Callable[[int], None], process: int) -> None:
    entry.process = process
    started(process)
