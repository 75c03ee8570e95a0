"""Real registries for the conformance suite: one for everybody, one with a password, one that stands still."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.credentials import Credentials
from criimage.reference import ImageID, Reference
from criimage.testing.oci import Config, Image, image, layer
from criimage.testing.scripted_stand import scripted_stand
from criimage.testing.stand import Published, Unending
from parts.registry import registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from parts.registry import Registry


class RealRegistry:
    """See `criimage.testing.stand.ConformanceRegistry`.

    Args:
        everybodys: asks for no credentials.
        owners: asks for the owner's.
    """

    def __init__(self, everybodys: Registry, owners: Registry) -> None:
        self._everybodys = everybodys
        self._owners = owners
        self.owner = Credentials(owners.username, owners.password)

    def image_id(self, seed: str) -> ImageID:
        """Return the config's digest."""
        return ImageID.parse(_image(seed, "").id)

    async def put(self, seed: str, *names: str, user: str = "", private: bool = False) -> Published:
        """Push it under each name."""
        where = self._owners if private else self._everybodys
        made = _image(seed, user)
        references = tuple(Reference.parse(f"{where.address}/{name}") for name in names)
        for reference in references:
            await asyncio.to_thread(where.client.push, made, reference.path, reference.tag or "")
        return Published(references, ImageID.parse(made.id), made.digest)

    async def withdraw(self, published: Published) -> None:
        """Delete its manifest."""
        for path in {reference.path for reference in published.references}:
            await asyncio.to_thread(self._everybodys.client.delete, path, published.digest)

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[Reference]:
        """Stop a registry's process while the image is in it."""
        with registry() as standing:
            name = await asyncio.to_thread(standing.push, _image("stalled", ""), "team/stalled", "1")
            standing.process.process.send_signal(signal.SIGSTOP)
            try:
                yield Reference.parse(name)
            finally:
                standing.process.process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def corrupted(self) -> AsyncIterator[Reference]:
        """No real registry does it: a scripted one."""
        with scripted_stand() as scripted:
            async with scripted.corrupted() as reference:
                yield reference

    @asynccontextmanager
    async def unending(self) -> AsyncIterator[Unending]:
        """A real one would not say to whom it sends: a scripted one."""
        with scripted_stand() as scripted:
            async with scripted.unending() as image:
                yield image


def _image(seed: str, user: str) -> Image:
    shared = layer({"etc/shared": b"the same in all"})
    return image(shared, layer({"seed": seed.encode()}), config=Config(user=user, labels={"seed": seed}))


@contextlib.contextmanager
def real_registries() -> Iterator[tuple[Registry, Registry]]:
    """Run the two registries that serve all tests."""
    with registry() as everybodys, registry(username="owner", password="right") as owners:  # noqa: S106 - a made-up one
        yield everybodys, owners
