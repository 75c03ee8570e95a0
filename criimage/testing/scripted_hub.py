"""What a scripted registry has, does and has seen (criimage.testing.scripted_registry), without the network."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Self

from criimage.testing.oci import Index
from criimage.testing.scripted_acts import Act, Answer, Auth, Close, End, Hang, Request, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from criimage.testing.certificates import Certificates
    from criimage.testing.oci import Blob, Image

__all__ = ["Script", "ScriptedRegistry"]

SECONDS = 30.0
"""How long waiting takes at most; only there so that a failing test ends."""


class Script:
    """Something the registry does to requests until it is released or has been done often enough.

    Attributes:
        reached: how many requests it has been applied to; one that hangs counts when it stands.
    """

    def __init__(
        self, hub: ScriptedRegistry, stage: Stage, act: Act, repository: str, reference: str, times: int | None
    ) -> None:
        self.stage, self.act, self.repository, self.reference = stage, act, repository, reference
        self.times = times
        self.reached = 0
        self._hub = hub
        # Readable from the release on, for every thread that waits for it and for its client together.
        self.released, self._releasing = os.pipe()

    def fits(self, request: Request) -> bool:
        """Whether it is meant for a request."""
        if request.stage is not self.stage or self.times == 0:
            return False
        if request.method == "HEAD" and not self._shows_without_body:
            return False
        return self.repository in {"", request.repository} and self.reference in {"", request.reference}

    @property
    def _shows_without_body(self) -> bool:
        return isinstance(self.act, Answer) or (isinstance(self.act, Hang | Close) and self.act.after is None)

    def release(self) -> None:
        """Let those it holds go on, and do it to nobody any more."""
        self._hub.forget(self)

    def wake(self) -> None:
        """Make `released` readable; for the registry."""
        os.write(self._releasing, b"\0")

    def close(self) -> None:
        """Free what it holds of the machine; for the registry."""
        os.close(self.released)
        os.close(self._releasing)


class ScriptedRegistry:
    """What one registry has, does and has seen. All methods may be called from any thread.

    Args:
        auth: what it asks of everyone.
        accounts: passwords by user name; with none, `Auth.BEARER` gives a token to anybody.

    Attributes:
        address: `127.0.0.1:PORT`, set when it runs.
        certificates: of HTTPS, or None for plain HTTP.
        manifests: by repository and then tag or digest.
        blobs: stage and bytes by digest.
    """

    def __init__(self, auth: Auth = Auth.NONE, accounts: Mapping[str, str] | None = None) -> None:
        self.auth, self.accounts = auth, dict(accounts or {})
        self.address = ""
        self.certificates: Certificates | None = None
        self.manifests: dict[str, dict[str, Blob]] = {}
        self.blobs: dict[str, tuple[Stage, bytes]] = {}
        self._changed = threading.Condition(threading.RLock())
        self._scripts: list[Script] = []
        self._all_scripts: list[Script] = []
        self._requests: list[Request] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for script in self._all_scripts:
            script.close()

    def put(self, item: Image | Index, repository: str, *tags: str) -> str:
        """Serve an image or index, by its digest and these tags, `latest` if there is none.

        Returns:
            its name at the first tag, `127.0.0.1:PORT/REPOSITORY:TAG`.
        """
        tags = tags or ("latest",)
        for one in item.images if isinstance(item, Index) else (item,):
            for part in one.layers:
                self.put_blob(part.data, part.digest)
            self.put_blob(one.config.data, one.config.digest, Stage.CONFIG)
            self.put_manifest(one.manifest, repository)
        self.put_manifest(item.manifest, repository, *tags)
        return f"{self.address}/{repository}:{tags[0]}"

    def put_blob(self, data: bytes, digest: str, stage: Stage = Stage.LAYER) -> None:
        """Serve bytes under a digest, which may be wrong."""
        with self._changed:
            self.blobs[digest] = (stage, data)

    def put_manifest(self, manifest: Blob, repository: str, *tags: str) -> None:
        """Serve any manifest by its digest and these tags."""
        with self._changed:
            known = self.manifests.setdefault(repository, {})
            known.update(dict.fromkeys((manifest.digest, *tags), manifest))

    def script(
        self, stage: Stage, act: Act, *, repository: str = "", reference: str = "", times: int | None = None
    ) -> Script:
        """Do something to requests from now on; of several scripts that fit a request the last one counts.

        Args:
            stage: what is asked for.
            act: what to do. What shows in a body alone is not done to HEAD requests.
            repository: only there; everywhere if empty.
            reference: only this tag or digest.
            times: how often; None for always.

        Returns:
            the script, to be released.
        """
        made = Script(self, stage, act, repository, reference, times)
        with self._changed:
            self._scripts.append(made)
            self._all_scripts.append(made)
        return made

    def forget(self, script: Script) -> None:
        """See `Script.release`."""
        with self._changed:
            if script in self._scripts:
                self._scripts.remove(script)
                script.wake()

    def release(self) -> None:
        """Release every script."""
        with self._changed:
            for script in list(self._scripts):
                self.forget(script)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, the oldest first; one that is open changes as it goes."""
        with self._changed:
            return tuple(self._requests)

    def asked(self, stage: Stage, *, repository: str = "", method: str = "GET") -> tuple[Request, ...]:
        """Every request of a stage so far."""
        found = (one for one in self.requests if one.stage is stage and one.method == method)
        return tuple(one for one in found if repository in {"", one.repository})

    def open(self, stage: Stage | None = None) -> tuple[Request, ...]:
        """Return the requests that are not answered to the end and whose client is still there."""
        return tuple(one for one in self.requests if one.end is End.OPEN and stage in {None, one.stage})

    @property
    def blob_bytes(self) -> int:
        """Bytes of configs and layers that have been sent."""
        return sum(one.sent for one in self.requests if one.stage in {Stage.CONFIG, Stage.LAYER})

    def wait(self, condition: Callable[[], object], seconds: float = SECONDS) -> None:
        """Block until a condition on the record holds; it is looked at after every change.

        Raises:
            TimeoutError: it does not hold in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(condition()), seconds):
                seen = "\n".join(map(str, self._requests[-20:]))
                raise TimeoutError(f"not in {seconds} s; the last requests:\n{seen}")

    async def until(self, condition: Callable[[], object], seconds: float = SECONDS) -> None:
        """Wait as `wait` does, in a coroutine."""
        await asyncio.to_thread(self.wait, condition, seconds)

    def begin(self, request: Request) -> Script | None:
        """Record a request and return the script it falls under; for the threads that answer."""
        with self._changed:
            request.number = len(self._requests) + 1
            self._requests.append(request)
            script = next((one for one in reversed(self._scripts) if one.fits(request)), None)
            if script is not None and script.times is not None:
                script.times -= 1
            self._changed.notify_all()
            return script

    def note(
        self, request: Request, *, script: Script | None = None, status: int = 0, sent: int = 0, end: End = End.OPEN
    ) -> None:
        """Record how far a request is; for the threads that answer."""
        with self._changed:
            request.status = status or request.status
            request.sent += sent
            if end is not End.OPEN:
                request.end = end
            if script is not None:
                script.reached += 1
            self._changed.notify_all()
