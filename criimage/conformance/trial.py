"""What the check of one behaviour works with: a client, images, and words for what it expects."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.conformance.client import CallError
from criimage.conformance.outcome import Failed
from criimage.conformance.supply import PASSWORD
from criimage.testing import oci

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from criimage.channel import Channel
    from criimage.conformance.client import Client, Status
    from criimage.conformance.supply import Published, Supply
    from criimage.cri.runtime import v1
    from criimage.testing.scripted_registry import ScriptedRegistry

__all__ = ["Trial", "spelled"]

_POLL_SECONDS = 0.1


def spelled(image_id: str) -> tuple[str, str]:
    """Return both spellings of an ID: bare, and with `sha256:`."""
    digits = image_id.removeprefix("sha256:")
    return digits, f"sha256:{digits}"


class Trial:
    """One check's surroundings.

    Args:
        client: keeps what is said.
        supply: where images come from.
        number: of the behaviour; part of every name.
        restart: restarts the service and returns when it answers, or None.
        connect: another connection to the same service.

    Attributes:
        client: as given.
        supply: as given.
        published: what was made pullable, for the clean-up.
    """

    def __init__(
        self,
        client: Client,
        supply: Supply,
        number: str,
        *,
        restart: Callable[[], Awaitable[None]] | None = None,
        connect: Callable[[], Channel] | None = None,
    ) -> None:
        self.client, self.supply, self.number = client, supply, number
        self.published: list[Published] = []
        self.asked: list[str] = []
        self._restart = restart
        self._connect = connect
        self._count = itertools.count(1)

    def image(
        self, word: str = "", *, config: oci.Config | None = None, annotations: dict[str, str] | None = None
    ) -> oci.Image:
        """Make a small image that no other check has; equal words give equal images."""
        seed = f"{self.supply.run} {self.number} {word}"
        return oci.image(oci.layer({"seed": seed.encode()}), config=config, annotations=annotations)

    async def publish(
        self,
        item: oci.Image | oci.Index | None = None,
        *tags: str,
        path: str = "",
        hub: ScriptedRegistry | None = None,
    ) -> Published:
        """Make an image pullable, in a repository of its own unless `path` says which."""
        number = next(self._count)
        item = item or self.image(str(number))
        where = f"{self.number.lower()}/{path or f'image-{number}'}"
        made = await self.supply.put(item, where, *tags, hub=hub)
        self.published.append(made)
        return made

    async def pulled(self, item: oci.Image | oci.Index | None = None, *tags: str, path: str = "") -> Published:
        """Make an image pullable and pull it by its first name."""
        made = await self.publish(item, *tags, path=path)
        await self.client.pull(made.name)
        return made

    async def present(self, text: str) -> v1.Image:
        """Return the image that is found under a name or ID.

        Raises:
            Failed: there is none.
        """
        image = (await self.client.status(text)).image
        self.expect(image.id, f"ImageStatus of {text} finds the image", "it finds nothing")
        return image

    async def absent(self, *texts: str) -> None:
        """Check that nothing is found under these names or IDs, which is no error.

        Raises:
            Failed: something is.
        """
        for text in texts:
            image = (await self.client.status(text)).image
            self.expect(not image.id, f"ImageStatus of {text} finds nothing", f"it finds {image.id}")

    async def listed(self, image_id: str) -> v1.Image | None:
        """Return the image of an ID as the whole list shows it, or None."""
        return next((one for one in await self.client.images() if one.id == image_id), None)

    async def refused(self, call: Awaitable[object], *codes: Status, what: str = "the call") -> CallError:
        """Await a call that has to fail, and return its error.

        Args:
            call: the call.
            codes: one of these; any where there is none.
            what: the call, for the report.

        Raises:
            Failed: it succeeded, or failed otherwise, or its text shows the run's password.
        """
        try:
            await call
        except CallError as error:
            names = " or ".join(code.name for code in codes)
            self.expect(not codes or error.status in codes, f"{what} fails with {names}", f"it is {error.status.name}")
            self.expect(PASSWORD not in error.text, "no error shows a password", "this one does")
            return error
        raise Failed(f"expected: {what} is refused; it succeeded")

    def expect(self, condition: object, expected: str, got: str = "it is not so") -> None:
        """Say what has to hold.

        Raises:
            Failed: it does not.
        """
        if not condition:
            raise Failed(f"expected: {expected}; {got}")

    def equal(self, found: object, wanted: object, what: str) -> None:
        """Say what something has to be.

        Raises:
            Failed: it is something else.
        """
        self.expect(found == wanted, f"{what} is {wanted!r}", f"it is {found!r}"[:600])

    async def soon(self, condition: Callable[[], object], expected: str, seconds: float) -> None:
        """Wait until something holds.

        Raises:
            Failed: it does not within so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - it may be anybody's
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise Failed(f"expected: {expected} within {seconds:g} s; it is not so") from None

    @asynccontextmanager
    async def within(self, seconds: float, what: str) -> AsyncIterator[None]:
        """Give the calls in the block so long.

        Raises:
            Failed: they take longer.
        """
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Failed(f"expected: {what} within {seconds:g} s; there is no answer") from None

    @asynccontextmanager
    async def pulling(self, name: str, auth: v1.AuthConfig | None = None) -> AsyncIterator[asyncio.Task[str]]:
        """Pull in the background while the block runs; whatever is left of the pull then is cancelled."""
        task = asyncio.create_task(self.client.pull(name, auth, seconds=None))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()

    async def restart(self) -> None:
        """Restart the service by the command that was given."""
        if self._restart is None:
            raise RuntimeError("there is no command that restarts the service")
        await self._restart()
