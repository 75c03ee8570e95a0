"""Where the suite's images come from for most backends: two scripted registries, one of them with a password."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from criimage.credentials import Credentials
from criimage.reference import ImageID, Reference
from criimage.testing.oci import Config, Image, image, layer, noise_layer
from criimage.testing.scripted_registry import Auth, Change, Hang, ScriptedRegistry, Stage, corrupted, scripted_registry
from criimage.testing.stand import Published, Unending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["ScriptedStandRegistry", "scripted_stand"]


class ScriptedStandRegistry:
    """See `criimage.testing.stand.ConformanceRegistry`. The backend has to take plain HTTP from 127.0.0.1.

    Args:
        everybodys: asks for no credentials.
        owners: asks for the owner's.
    """

    def __init__(self, everybodys: ScriptedRegistry, owners: ScriptedRegistry) -> None:
        self._everybodys, self._owners = everybodys, owners
        ((name, password),) = owners.accounts.items()
        self.owner = Credentials(name, password)

    def image_id(self, seed: str) -> ImageID:
        """Return the config's digest."""
        return ImageID.parse(_image(seed, "").id)

    async def put(self, seed: str, *names: str, user: str = "", private: bool = False) -> Published:
        """Serve it under each name."""
        hub = self._owners if private else self._everybodys
        made = _image(seed, user)
        references = tuple(Reference.parse(f"{hub.address}/{name}") for name in names)
        for reference in references:
            hub.put(made, reference.path, reference.tag or "latest")
        return Published(references, ImageID.parse(made.id), made.digest)

    async def withdraw(self, published: Published) -> None:
        """Serve it no more."""
        for reference in published.references:
            known = self._everybodys.manifests[reference.path]
            for name in (reference.tag or "latest", published.digest):
                known.pop(name, None)

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[Reference]:
        """Answer its manifest only when the block has ended."""
        name = self._everybodys.put(_image("stalled", ""), "team/stalled", "1")
        script = self._everybodys.script(Stage.MANIFEST, Hang(), repository="team/stalled")
        try:
            yield Reference.parse(name)
        finally:
            script.release()

    @asynccontextmanager
    async def corrupted(self) -> AsyncIterator[Reference]:
        """Change its layers on their way."""
        name = self._everybodys.put(_image("corrupted", ""), "team/corrupted", "1")
        script = self._everybodys.script(Stage.LAYER, Change(corrupted), repository="team/corrupted")
        try:
            yield Reference.parse(name)
        finally:
            script.release()

    @asynccontextmanager
    async def unending(self) -> AsyncIterator[Unending]:
        """Send the beginning of its layer, and the rest when the block has ended."""
        made = image(noise_layer(300_000, seed="unending"))
        name = self._everybodys.put(made, "team/unending", "1")
        script = self._everybodys.script(Stage.LAYER, Hang(after=1000), repository="team/unending")
        try:
            yield Unending(Reference.parse(name), self._sends_a_layer)
        finally:
            script.release()

    def _sends_a_layer(self) -> bool:
        return any(one.repository == "team/unending" for one in self._everybodys.open(Stage.LAYER))


@contextmanager
def scripted_stand() -> Iterator[ScriptedStandRegistry]:
    """Run both registries while the block runs."""
    accounts = {"owner": "right"}
    with scripted_registry() as everybodys, scripted_registry(auth=Auth.BASIC, accounts=accounts) as owners:
        yield ScriptedStandRegistry(everybodys, owners)


def _image(seed: str, user: str) -> Image:
    return image(layer({"seed": seed.encode()}), config=Config(user=user, labels={"seed": seed}))
