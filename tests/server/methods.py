"""Every method of both versions, a good request for each, and hand-made protobuf."""

from __future__ import annotations

IMAGES = tuple(
    f"/runtime.{version}.ImageService/{name}"
    for version in ("v1", "v1alpha2")
    for name in ("ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo")
)
STREAM = "/runtime.v1.ImageService/StreamImages"
RUNTIME = tuple(
    f"/runtime.{version}.RuntimeService/{name}" for version in ("v1", "v1alpha2") for name in ("Version", "Status")
)
EVERY = (*IMAGES, STREAM, *RUNTIME)

SERVICES = [
    *(f"runtime.{version}.{name}" for version in ("v1", "v1alpha2") for name in ("ImageService", "RuntimeService")),
    "criimage.v1.PullService",
    "criimage.v1.RemovalService",
    "criimage.v1.StatusService",
]
"""The full names of the services that a server without a relay has, but for health and reflection."""

LIST = "/runtime.v1.ImageService/ListImages"
PULL = "/runtime.v1.ImageService/PullImage"
STATUS = "/runtime.v1.ImageService/ImageStatus"
REMOVE = "/runtime.v1.ImageService/RemoveImage"


def varint(number: int) -> bytes:
    """A varint."""
    out = b""
    while number >= 0x80:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))


def field(number: int, content: bytes | str) -> bytes:
    """A field of bytes, text or a message."""
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def spec(image: bytes | str) -> bytes:
    """The field of an ImageSpec as it stands first in the requests about one image."""
    return field(1, field(1, image))


def operation(path: str) -> str:
    """A method's bare name."""
    return path.rpartition("/")[2]


def asking(path: str, image: bytes | str) -> bytes:
    """A request that names an image wherever the method takes a name; elsewhere an empty one."""
    name = operation(path)
    if name in {"ListImages", "StreamImages"}:
        return field(1, spec(image))
    return spec(image) if name in {"ImageStatus", "PullImage", "RemoveImage"} else b""
