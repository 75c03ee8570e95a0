"""One pull: the engine's own, followed message by message (P1-P21)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from criimage.errors import BackendUnavailable, OperationFailed, PullError
from criimage.masking import Secrets
from criimage_docker.engine.answers import Refusal
from criimage_docker.engine.json_stream import JSONStream
from criimage_docker.engine.names import familiar, familiar_repository
from criimage_docker.pulling.auth import registry_auth
from criimage_docker.pulling.download_queue import DownloadQueue
from criimage_docker.pulling.failures import pull_failure
from criimage_docker.pulling.progress import Tracker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from criimage.backend import Image, ProgressReporter
    from criimage.credentials import Credentials
    from criimage.reference import Reference
    from criimage_docker.engine.api import Engine
    from criimage_docker.view.facts import Facts, FactsKeeper
    from criimage_docker.view.finder import Finder
    from criimage_docker.view.view import View

__all__ = ["Puller"]

_RESULT = "Status: "
_PULSE_SECONDS = 0.5


class Puller:
    """Pulls into one engine.

    Args:
        engine: does it.
        view: is told, and asked for the result.
        finder: finds the result where the view does not have it.
        facts: tell how many layers there are.
    """

    def __init__(self, engine: Engine, view: View, finder: Finder, facts: FactsKeeper) -> None:
        self._engine = engine
        self._view = view
        self._finder = finder
        self._facts = facts
        self._queue = DownloadQueue()
        self._looking: set[asyncio.Task[None]] = set()

    async def pull(self, reference: Reference, credentials: Credentials | None, report: ProgressReporter) -> Image:
        """Pull one image, see `criimage.backend.Backend.pull`.

        The engine shares the transfer among pulls of the same layers (P21). After a cancel the connection is closed,
        which ends the engine's work within half a second (P20).

        Success proves that the caller may have the image: the engine asks the registry each time, but for a graph
        driver's pull by a digest that is here. Then it is made to ask (`_prove`), before it is told to pull anything.
        """
        queued = self._queue.enter()
        tracker = Tracker(report, queued)
        tracker.start()
        event = familiar(reference)
        self._view.expect(event)
        pulled = proven = False
        try:
            if reference.digest is not None and self._view.names(reference):
                proven = await self._prove_meanwhile(reference, credentials, tracker)
            else:
                proven = reference.digest is None or await self._prove(reference, credentials)
                await self._follow(reference, credentials, tracker)
            pulled = True
        except Refusal as refusal:
            raise pull_failure(
                refusal.message, reference, status=refusal.status, secrets=Secrets.of(credentials)
            ) from refusal
        finally:
            queued.leave()
            self._view.unexpect(event, soon=pulled)
            if not pulled:
                # It should have changed nothing; a cancel may have come too late for that.
                self._view.changed()
        image, layers = await self._result(reference, tracker)
        if not proven and not _is_of_containerd(image, reference):
            # Another engine answers now than the one that was asked for its store.
            await self._prove(reference, credentials, certainly=True)
        tracker.finish(layers)
        return image

    async def _prove_meanwhile(self, reference: Reference, credentials: Credentials | None, tracker: Tracker) -> bool:
        """Have the registry asked while the engine pulls what it has already under this very name.

        Such a pull cannot give anything to a caller who may not have it: the engine knows the name and the image, and
        fetches nothing without asking the registry itself.

        Returns:
            see `_prove`, whose error comes first.
        """
        proving = asyncio.create_task(self._prove(reference, credentials), name=f"prove {reference}")
        following = asyncio.create_task(self._follow(reference, credentials, tracker), name=f"pull {reference}")
        try:
            await asyncio.wait((proving, following), return_when=asyncio.FIRST_EXCEPTION)
            if not proving.done():
                await following  # which has failed
            proven = await proving
            await following
        finally:
            for task in (proving, following):
                task.cancel()
            await asyncio.gather(proving, following, return_exceptions=True)
        return proven

    async def _prove(self, reference: Reference, credentials: Credentials | None, *, certainly: bool = False) -> bool:
        """Have the engine ask the registry for a manifest with these credentials, unless its pull will.

        The containerd store asks by itself. A graph driver's engine answers a digest that it has from its own store of
        manifests, whoever asks.

        Returns:
            whether the registry was asked; if not, the result has to be looked at.

        Raises:
            CriimageError: the registry did not answer 200: no success without that.
        """
        with contextlib.suppress(Refusal):
            if not certainly and (await self._engine.features()).containerd_store:
                return False
        try:
            await self._engine.distribution(reference, registry_auth(credentials, reference.domain))
        except Refusal as refusal:
            raise pull_failure(
                refusal.message, reference, status=refusal.status, secrets=Secrets.of(credentials)
            ) from refusal
        return True

    async def _result(self, reference: Reference, tracker: Tracker) -> tuple[Image, int]:
        """Return the image and how many layers it has.

        The stream's last line is a promise (A4); that the image is there is what counts. Where the engine says that
        nothing is new, and no event has told of a change, the image is the one that was there.
        """
        known = self._view.unchanged(reference, tracker.digest) if tracker.up_to_date else None
        facts = None if known is None else self._facts.of(known.id)
        if known is not None and facts is not None:
            if tracker.digest == f"sha256:{known.id.hex}":
                # The containerd store may have fetched another platform's config and nothing else, of which it says
                # nothing. That is looked at when nobody waits for it any more.
                self._look_again(reference)
            return known, facts.layers
        try:
            image, facts = await self._inspected(reference)
        except Refusal as refusal:
            self._view.changed()
            raise OperationFailed(f"the image was removed while it was pulled: {reference}") from refusal
        except BaseException:
            self._view.changed()
            raise
        return image, facts.layers

    def _look_again(self, reference: Reference) -> None:
        looking = asyncio.create_task(self._finder.mend(str(reference)), name=f"look at {reference} again")
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)

    async def close(self) -> None:
        """Stop what goes on after pulls."""
        for looking in self._looking:
            looking.cancel()
        if self._looking:
            await asyncio.wait(self._looking)

    async def _inspected(self, reference: Reference) -> tuple[Image, Facts]:
        taken = self._finder.take(reference, await self._engine.inspect(reference))
        if taken is not None:
            return taken
        # Asked for once more, after the view knows of the change: then it belongs to the listing that comes now.
        generation = self._view.generation
        inspected = await self._engine.inspect(reference)
        await self._view.snapshot()
        image = (await self._finder.listed(inspected)).image
        return image, self._facts.learn(image.id, inspected, generation)

    async def _follow(self, reference: Reference, credentials: Credentials | None, tracker: Tracker) -> None:
        parameters = {
            # Never without a tag or digest: the engine would pull every tag there is (P7).
            "fromImage": familiar_repository(reference),
            "tag": reference.digest or reference.tag or "latest",
        }
        headers = {"X-Registry-Auth": registry_auth(credentials, reference.domain)}
        async with self._engine.stream("POST", "images/create", parameters, headers) as chunks:
            watching = asyncio.create_task(self._watch(tracker), name=f"watch the pull of {reference}")
            try:
                ended = await self._read(chunks, reference, credentials, tracker)
            except ValueError as error:
                raise PullError(f"{error}: {reference}") from error
            finally:
                watching.cancel()
        if not ended:
            raise BackendUnavailable(f"the Docker engine ended the pull of {reference} without a result")

    async def _watch(self, tracker: Tracker) -> None:
        """Ping the engine while its silence is no standstill, so that none is seen as long as the engine lives.

        Unpacking has no deadline of its own ([cri-dockerd] P18): a large layer takes minutes in which the containerd
        store says nothing at all. A pull that waits for others' downloads to end says so. A frozen engine does not
        answer.
        """
        before = time.monotonic()
        while True:
            await asyncio.sleep(_PULSE_SECONDS)
            now = time.monotonic()
            if tracker.waits(before) or tracker.unpacks:
                with contextlib.suppress(BackendUnavailable):
                    await self._engine.ping()
                    tracker.alive()
            before = now

    async def _read(
        self,
        chunks: AsyncIterator[bytes],
        reference: Reference,
        credentials: Credentials | None,
        tracker: Tracker,
    ) -> bool:
        """Read the stream to its end, and tell whether it ended with a result."""
        stream = JSONStream()
        ended = False
        async for chunk in chunks:
            for message in stream.feed(chunk):
                failure = _failure(message)
                if failure is not None:
                    text, code = failure
                    raise pull_failure(text, reference, code=code, secrets=Secrets.of(credentials))
                tracker.see(message)
                ended = ended or str(message.get("status", "")).startswith(_RESULT)
        stream.end()
        return ended


def _failure(message: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """Return text and code of an error message; `error` alone is the older way to tell (P10)."""
    detail = message.get("errorDetail")
    if isinstance(detail, dict) and (detail.get("message") or detail.get("code")):
        code = detail.get("code")
        text = detail.get("message") or message.get("error") or ""
        return str(text), code if isinstance(code, int) else None
    if message.get("error"):
        return str(message["error"]), None
    return None


def _is_of_containerd(image: Image, reference: Reference) -> bool:
    """Tell whether an image's ID is the digest that it was pulled by; a graph driver's is its config's."""
    return reference.digest == f"sha256:{image.id.hex}"
