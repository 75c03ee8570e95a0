"""Finds one image for a status, a removal or a pull: by the last listing where that is proof, else by the engine.

The listing is what the engine said, not what it has. It misses what no list shows (nameless parents of other images,
artifacts of the containerd store) and what changed without an event. So the engine itself is asked about the one image

- before it is called absent,
- before it is called present, where an image can go without an event (`Features.tells_removals`),
- before a text is taken for the prefix of an ID, where it may be a name too.

The order in which a text is read is the engine's: full ID, name, prefix of an ID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criimage.catalogue import qualified
from criimage.errors import CriimageError, OperationFailed
from criimage.reference import Name
from criimage_docker.engine.answers import NOT_FOUND, Refusal
from criimage_docker.engine.records import convert
from criimage_docker.engine.words import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.backend import Image
    from criimage.reference import ImageID, Lookup, Reference
    from criimage_docker.engine.api import Engine
    from criimage_docker.view.facts import Facts, FactsKeeper
    from criimage_docker.view.view import View

__all__ = ["Finder", "Found"]

_KEPT = 10_000
_SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Found:
    """An image that is there.

    Attributes:
        image: as the list has it; of what no list shows, as the engine's inspect has it.
        inspected: the engine's answer, if it was asked.
    """

    image: Image
    inspected: Mapping[str, Any] | None = None


class Finder:
    """Finds images of one engine.

    Args:
        engine: is asked.
        view: its last listing.
        facts: tell whether an image is what it was.
    """

    def __init__(self, engine: Engine, view: View, facts: FactsKeeper) -> None:
        self._engine = engine
        self._view = view
        self._facts = facts
        # What the engine has and its list of that generation tells otherwise or not at all.
        self._differing: dict[ImageID, tuple[int, Image]] = {}

    async def find(self, lookup: Lookup, *, ask: bool = False) -> Found | None:
        """Return the image that a client means (S5, S6), or None if the engine has none.

        Args:
            lookup: what the client wrote.
            ask: ask the engine in any case.

        Raises:
            InvalidRequest: a name that this engine cannot read.
            BackendUnavailable: the engine does not answer.
            OperationFailed: it has the image and cannot tell about it.
        """
        if not ask:
            snapshot, current = await self._view.latest()
            image = snapshot.find(lookup)
            by_name = lookup.name is not None and image is not None and qualified(lookup.name) in _names(image)
            certain = lookup.id is not None or lookup.name is None or by_name
            if image is not None and certain and (current or self._view.tells_removals):
                return Found(image)
        return await self._ask(lookup)

    async def mend(self, name: str) -> None:
        """Find out what a pull has done, and tell the view; a pull that has changed nothing costs no listing.

        Args:
            name: was pulled, as the engine's event says it: familiar, and without a tag if all tags were pulled.
        """
        try:
            parsed = Name.parse(name)
            if parsed.tag is None and parsed.digest is None:
                self._view.changed()
                return
            inspected = await self._engine.inspect(qualified(parsed))
        except (CriimageError, Refusal):
            self._view.changed()
            return
        self.take(qualified(parsed), inspected)

    def take(self, reference: Reference, inspected: Mapping[str, Any]) -> tuple[Image, Facts] | None:
        """Take over what a pull did, if an inspect tells it all; else the view knows that something has changed.

        Args:
            reference: was pulled.
            inspected: the engine's answer, asked for afterwards.
        """
        generation = self._view.generation
        image = self._view.pulled(reference, inspected, same=self._facts.same(inspected))
        return None if image is None else (image, self._facts.learn(image.id, inspected, generation))

    async def _ask(self, lookup: Lookup) -> Found | None:
        if lookup.id is not None:
            return await self._asked(lookup.id)
        found = None if lookup.name is None else await self._asked(qualified(lookup.name))
        if found is None and lookup.id_prefix is not None:
            return await self._with_prefix(lookup.id_prefix)
        return found

    async def _with_prefix(self, prefix: str) -> Found | None:
        if len(prefix) < _SHORTEST_PREFIX:
            # Too few digits for the containerd store.
            image = (await self._view.snapshot()).with_prefix(prefix)
            return None if image is None else await self._asked(image.id)
        inspected = await self._inspected(prefix)
        found = None if inspected is None else await self.listed(inspected)
        return found if found is not None and found.image.id.hex.startswith(prefix) else None

    async def _asked(self, key: ImageID | Reference) -> Found | None:
        inspected = await self._inspected(key)
        if inspected is not None:
            found = await self.listed(inspected)
            # The containerd store finds a digest in any repository.
            if key == found.image.id or key in _names(found.image):
                return found
        elif self._view.shows(key):
            self._view.changed()
        return None

    async def _inspected(self, key: ImageID | Reference | str) -> Mapping[str, Any] | None:
        try:
            return await (self._engine.inspect_prefix(key) if isinstance(key, str) else self._engine.inspect(key))
        except Refusal as refusal:
            if refusal.status == NOT_FOUND:
                return None
            raise refused(refusal, "inspect the image") from refusal

    async def listed(self, inspected: Mapping[str, Any]) -> Found:
        """Return an inspected image as the list has it; a listing that does not have it so is asked for anew.

        Raises:
            OperationFailed: the engine's answer makes no sense.
        """
        try:
            asked = convert(inspected)
        except ValueError as error:
            raise OperationFailed(f"what the Docker engine tells about the image cannot be read: {error}") from error
        known = self._view.known(asked.id)
        if known is not None and _names(known) == _names(asked):
            return Found(known, inspected)
        if self._view.trusted and self._differing.get(asked.id) == (self._view.generation, asked):
            return Found(known or asked, inspected)
        self._view.changed()
        generation = self._view.generation
        listed = (await self._view.snapshot()).with_id(asked.id.hex)
        if listed is None and _names(asked):
            self._view.unlisted(inspected, asked)
        elif listed is None or _names(listed) != _names(asked):
            if len(self._differing) >= _KEPT:
                self._differing.clear()
            self._differing[asked.id] = (generation, asked)
        return Found(listed or asked, inspected)


def _names(image: Image) -> frozenset[Reference]:
    return frozenset((*image.tags, *image.digests))
