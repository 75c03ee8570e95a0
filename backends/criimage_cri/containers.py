"""Which images containers use, by the runtime's own list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.catalogue import qualified
from criimage.errors import InvalidRequest
from criimage.reference import Lookup
from criimage_cri.records import fields_of, messages, text

if TYPE_CHECKING:
    from criimage.backend import Image

__all__ = ["user_of"]

_ID, _IMAGE, _IMAGE_REF, _IMAGE_ID = 1, 4, 5, 10


def user_of(image: Image, answer: bytes) -> str | None:
    """Return the ID of a container that uses the image, running or not; None where none does.

    Runtimes write the image in three fields, each in its own way (cri-protocol 4): an ID decides, else the digest or
    name that the container was made with. Where a name has moved on to another image since, an older cri-dockerd is
    not told from a new user: then the image counts as used.

    Args:
        image: with all its names.
        answer: a ListContainersResponse.

    Raises:
        OperationFailed: it cannot be decoded.
    """
    for container in messages(fields_of(answer)[1]):
        fields = fields_of(container)
        spec = fields_of(b"".join(messages(fields[_IMAGE])))
        written = [text(fields[_IMAGE_ID]), text(fields[_IMAGE_REF]), text(spec[1])]
        lookups = [lookup for lookup in map(_lookup, written) if lookup is not None]
        ids = [lookup.id for lookup in lookups if lookup.id is not None]
        uses = image.id in ids if ids else any(_names(lookup, image) for lookup in lookups)
        if uses:
            return text(fields[_ID])
    return None


def _lookup(written: str) -> Lookup | None:
    for scheme in ("docker-pullable://", "docker://"):
        written = written.removeprefix(scheme)
    try:
        return Lookup.parse(written)
    except InvalidRequest:
        return None


def _names(lookup: Lookup, image: Image) -> bool:
    if lookup.id_prefix is not None and image.id.hex.startswith(lookup.id_prefix):
        return True
    if lookup.name is None:
        return False
    name = qualified(lookup.name)
    return name in image.tags or name in image.digests
