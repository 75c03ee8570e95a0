"""One pull: the engine's own, followed message by message (P1-P21)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from criimage.errors import BackendUnavailable, OperationFailed, PullError
from criimage.masking import Secrets
from criimage_docker.engine.api import Refusal
from criimage_docker.engine.json_stream import JSONStream
from criimage_docker.engine.names import familiar, familiar_repository
from criimage_docker.engine.records import section
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
    from criimage_docker.view.view import View

__all__ = ["Puller"]

_RESULT = "Status: "
_PULSE_SECONDS = 0.5


class Puller:
    """Pulls into one engine.

    Args:
        engine: does it.
        view: is told, and asked for the result.
    """

    def __init__(self, engine: Engine, view: View) -> None:
        self._engine = engine
        self._view = view
        self._queue = DownloadQueue()

    async def pull(self, reference: Reference, credentials: Credentials | None, report: ProgressReporter) -> Image:
        """Pull one image, see `criimage.backend.Backend.pull`.

        The engine asks the registry each time, and shares the transfer among pulls of the same layers (P21). After a
        cancel the connection is closed, which ends the engine's work within half a second (P20).
        """
        queued = self._queue.enter()
        tracker = Tracker(report, queued)
        tracker.start()
        event = familiar(reference)
        self._view.expect(event)
        pulled = False
        try:
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
        image, layers = await self._result(reference)
        tracker.finish(layers)
        return image

    async def _result(self, reference: Reference) -> tuple[Image, int]:
        """Return the image and how many layers it has.

        The stream's last line is a promise (A4); that the image is there is what counts.
        """
        layers = 0
        try:
            inspected = await self._engine.inspect(reference)
            layers = len(section(inspected, "RootFS").get("Layers") or ())
            image = self._view.pulled(reference, inspected)
        except Refusal:
            self._view.changed()
            image = None
        except BaseException:
            self._view.changed()
            raise
        if image is None:
            image = (await self._view.snapshot()).with_name(reference)
        if image is None:
            raise OperationFailed(f"the image was removed while it was pulled: {reference}")
        return image, layers

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
        store says nothing at all. And a pull may wait for others' downloads to end. A frozen engine does not answer.
        """
        before = time.monotonic()
        while True:
            await asyncio.sleep(_PULSE_SECONDS)
            now = time.monotonic()
            if tracker.excused(before):
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
