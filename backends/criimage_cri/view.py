"""What the runtime has: its list, and one image by whatever a client calls it.

Nothing is answered from memory: each call asks the runtime. Kept is only what its answers were read as: the same bytes
are the same `Image`, and the same images the same tuple, so that the server need not encode them again.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from criimage import wire
from criimage.catalogue import qualified
from criimage.errors import OperationFailed
from criimage.foreign_json import plain_or_json
from criimage.reference import ImageID
from criimage_cri.records import details_of, fields_of, map_of, messages
from criimage_cri.runtimes import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from criimage.backend import Image, ImageDetails
    from criimage.reference import Lookup
    from criimage_cri.runtimes import Runtime
    from criimage_cri.upstream import Upstream

__all__ = ["View", "image_spec"]

_READ_AT_ONCE = 100
_KEPT_LIMIT = 20_000


def image_spec(name: str) -> bytes:
    """Return field 1 of most requests: an ImageSpec with a name or an ID."""
    return wire.length_delimited(1, wire.text_field(1, name))


class View:
    """The runtime's images.

    Args:
        upstream: where to ask.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._runtime: Runtime = UNKNOWN
        self._read: dict[bytes, ImageDetails | None] = {}
        self._answer: bytes | None = None
        self._elements: frozenset[bytes] = frozenset()
        self._images: tuple[Image, ...] = ()
        self._prefixed: bool | None = None

    async def images(self) -> tuple[Image, ...]:
        """List the runtime's images by ID; the same tuple while it says the same of them, in whatever order.

        Raises:
            BackendUnavailable: the runtime does not answer.
            OperationFailed: it answers with an error.
        """
        await self._meet()
        answer = await self._upstream.images("ListImages", b"")
        if answer == self._answer:
            return self._images
        elements = frozenset(messages(fields_of(answer)[1]))
        if elements != self._elements:
            found = await self._merged(elements)
            self._elements = elements
            self._read = {element: self._read[element] for element in elements if element in self._read}
            # Equal images in new words are no change.
            self._images = self._images if found == self._images else found
        self._answer = answer
        return self._images

    async def _merged(self, elements: Iterable[bytes]) -> tuple[Image, ...]:
        by_id: dict[ImageID, Image] = {}
        for count, element in enumerate(elements):
            if count % _READ_AT_ONCE == _READ_AT_ONCE - 1:
                await asyncio.sleep(0)  # the first list of a large store is not to hold up other calls
            details = self._details(element)
            if details is None:
                continue
            image = details.image
            same = by_id.get(image.id)
            by_id[image.id] = image if same is None else _both(same, image)
        # The same image in new words is the same value, so that nothing of it is encoded again.
        before = {image.id: image for image in self._images}
        return tuple(_kept(before.get(key), by_id[key]) for key in sorted(by_id))

    async def find(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Return the image that a lookup finds: the runtime is given the text, so it has its own meaning there.

        What the runtime refuses or does not know is looked for in its list: a short ID in any spelling is found by
        every runtime. An answer about another image than the text can mean is none.

        Raises:
            BackendUnavailable: the runtime does not answer.
            OperationFailed: it answers with an error.
        """
        await self._meet()
        if lookup.id is not None:
            return await self.with_id(lookup.id, verbose=verbose)
        if lookup.id_prefix is None and lookup.name is None:
            return None
        refused: OperationFailed | None = None
        try:
            details = await self.ask(lookup.text, verbose=verbose)
        except OperationFailed as error:
            details, refused = None, error
        if details is not None and self._may_mean(lookup, details.image):
            return details
        if lookup.id_prefix is not None:
            matches = [image.id for image in await self.images() if image.id.hex.startswith(lookup.id_prefix)]
            return await self.with_id(matches[0], verbose=verbose) if len(matches) == 1 else None
        if refused is not None:
            raise refused
        return None

    async def with_id(self, wanted: ImageID, *, verbose: bool = False) -> ImageDetails | None:
        """Return the image of an ID, which the runtime is asked for in its own spelling; raises as `find` does."""
        await self._meet()
        refused: OperationFailed | None = None
        for spelling in (True, False) if self._prefixed is None else (self._prefixed,):
            try:
                details = await self.ask(str(ImageID(wanted.hex, spelling)), verbose=verbose)
            except OperationFailed as error:
                refused = error
                continue
            if details is not None and details.image.id == wanted:
                return details
            refused = None
        if refused is not None:
            raise refused
        return None

    async def ask(self, text: str, *, verbose: bool = False) -> ImageDetails | None:
        """Return what the runtime has under a text; raises as `find` does."""
        request = image_spec(text) + wire.varint_field(2, int(verbose))
        answer = fields_of(await self._upstream.images("ImageStatus", request))
        pieces = messages(answer[1])
        details = self._details(b"".join(pieces)) if pieces else None
        if details is None or not verbose:
            return details
        # Labels may stand there: one that breaks the client that prints it is left out (dockershim S8).
        told = map_of(answer[2])
        return replace(details, info={key: value for key, value in told.items() if plain_or_json(value)})

    def _details(self, data: bytes) -> ImageDetails | None:
        if data not in self._read:
            if len(self._read) >= _KEPT_LIMIT:
                self._read.clear()
            try:
                self._read[data] = details_of(data, self._runtime)
            except OperationFailed:
                self._read[data] = None  # one that cannot be read hides no other
        details = self._read[data]
        if details is not None and self._prefixed is None:
            self._prefixed = details.image.id.prefixed
        return details

    async def _meet(self) -> None:
        """Learn whom we ask; what was read of another one is forgotten."""
        runtime = await self._upstream.runtime()
        if runtime != self._runtime:
            self._runtime = runtime
            self._read.clear()
            self._answer, self._elements = None, frozenset()
            self._prefixed = runtime.prefixed_ids

    def _may_mean(self, lookup: Lookup, image: Image) -> bool:
        if lookup.id_prefix is not None and image.id.hex.startswith(lookup.id_prefix):
            return True
        name = lookup.name
        if name is None:
            return False
        if name.domain is None and not self._runtime.short_names_are_dockers:
            return True  # the runtime's own configuration says which registry is meant
        wanted = qualified(name)
        return wanted in image.tags or wanted in image.digests


def _kept(before: Image | None, now: Image) -> Image:
    return before if before is not None and before == now else now


def _both(one: Image, other: Image) -> Image:
    """Return one image of which the runtime lists two halves."""
    return replace(
        one,
        tags=tuple(sorted({*one.tags, *other.tags})),
        digests=tuple(dict.fromkeys((*one.digests, *other.digests))),
        pinned=one.pinned or other.pinned,
    )
