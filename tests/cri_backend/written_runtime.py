"""A scripted runtime with images: what of CRI-O's and cri-dockerd's ways a real containerd does not show."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from criimage import wire
from criimage.testing.scripted_runtime import Script, ScriptedRuntime, ServedCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

UNKNOWN = 2


def hexadecimal(seed: str) -> str:
    """64 digits."""
    return hashlib.sha256(seed.encode()).hexdigest()


RUNTIMES = ("containerd", "cri-o", "docker", "somebody")
ONE, OTHER = hexadecimal("one"), hexadecimal("other")
DIGEST = f"sha256:{hexadecimal('manifest')}"


def text(message: bytes, *way: int) -> str:
    """The text of a field, by the numbers of the messages that it lies in; empty where there is none."""
    value: wire.Value = message
    for wanted in way:
        assert isinstance(value, bytes)
        value = next((found for number, _, found in wire.fields(value) if number == wanted), b"")
    return wire.text(value)


@dataclass(slots=True)
class Stored:
    """An image as the runtime has it."""

    id: str
    tags: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def encoded(self, order: int = 1) -> bytes:
        """As a message; `order` -1 has the names the other way round."""
        parts = [wire.text_field(1, self.id)]
        parts += [wire.text_field(2, tag) for tag in self.tags[::order]]
        parts += [wire.text_field(3, digest) for digest in self.digests]
        return b"".join([*parts, wire.varint_field(4, 1000), wire.text_field(6, "nobody")])


def spelled(name: str, digits: str = ONE) -> str:
    """An ID as the runtime of that name writes it."""
    return digits if name == "cri-o" else f"sha256:{digits}"


def an_image(name: str, digits: str = ONE) -> Stored:
    """An image with two tags and a digest, as the runtime of that name has it."""
    return Stored(spelled(name, digits), ["reg.example/a:2", "reg.example/a:1"], [f"reg.example/a@{DIGEST}"])


@dataclass
class WrittenRuntime:
    """What the runtime has, and how it is.

    Attributes:
        server: where it runs.
        name: as its Version tells.
        images: what it has.
        pulls: the text of a pull to what it brings.
        prefixed: whether it knows IDs as `sha256:HEX`, or bare; the other spelling is an error, as on CRI-O.
        untags: whether a removal by a name takes only that name.
        forgets: whether a removal by ID takes only one name.
        deaf_to_names: whether a removal by a name is OK and does nothing, as on cri-dockerd.
        containers: as messages.
        order: of lists.
        image_ref: what a pull answers with: `id` or `digest`.
    """

    server: ScriptedRuntime
    name: str = "containerd"
    images: list[Stored] = field(default_factory=list)
    pulls: dict[str, Stored] = field(default_factory=dict)
    prefixed: bool = True
    untags: bool = False
    forgets: bool = False
    deaf_to_names: bool = False
    containers: list[bytes] = field(default_factory=list)
    order: int = 1
    image_ref: str = "id"

    def install(self, version: str) -> None:
        """Answer the calls of one version of the API."""
        images, runtime = f"/runtime.{version}.ImageService", f"/runtime.{version}.RuntimeService"
        for method, answer in (
            (f"{images}/ListImages", self._list),
            (f"{images}/ImageStatus", self._status),
            (f"{images}/PullImage", self._pull),
            (f"{images}/RemoveImage", self._remove),
            (f"{images}/ImageFsInfo", self._usage),
            (f"{runtime}/ListContainers", self._list_containers),
            (f"{runtime}/Version", self._version),
        ):
            self.server.on(method, answer)

    def find(self, asked: str) -> Stored | None:
        """As the runtime understands it: its spelling of IDs, then names."""
        for image in self.images:
            if asked in (image.id, *image.tags, *image.digests):
                return image
        short = [image for image in self.images if len(asked) >= 3 and image.id.startswith(asked)]
        return short[0] if len(short) == 1 else None

    async def _version(self, call: ServedCall) -> None:
        values = ("0.1.0", self.name, "1.0", "v1")
        await call.send(b"".join(wire.text_field(number, value) for number, value in enumerate(values, 1)))
        await call.finish()

    async def _list(self, call: ServedCall) -> None:
        images = self.images[:: self.order]
        await call.send(b"".join(wire.length_delimited(1, image.encoded(self.order)) for image in images))
        await call.finish()

    async def _status(self, call: ServedCall) -> None:
        request = await call.receive() or b""
        asked = text(request, 1, 1)
        foreign = asked.startswith("sha256:") if not self.prefixed else len(asked) == 64
        if foreign and not self.prefixed:
            await call.finish(UNKNOWN, f"short-name resolution of {asked} failed")
            return
        found = None if foreign else self.find(asked)
        await call.send(b"" if found is None else wire.length_delimited(1, found.encoded()))
        await call.finish()

    async def _pull(self, call: ServedCall) -> None:
        asked = text(await call.receive() or b"", 1, 1)
        image = self.pulls.get(asked)
        if image is None:
            await call.finish(UNKNOWN, f"reading manifest in {asked}: manifest unknown")
            return
        if image not in self.images:
            self.images.append(image)
        await call.send(wire.text_field(1, image.digests[0] if self.image_ref == "digest" else image.id))
        await call.finish()

    async def _remove(self, call: ServedCall) -> None:
        asked = text(await call.receive() or b"", 1, 1)
        await asyncio.sleep(0)
        image = self.find(asked)
        if image is not None:
            by_name = asked != image.id
            if by_name and self.untags:
                image.tags = [tag for tag in image.tags if tag != asked]
                image.digests = image.digests if image.tags else []
            elif self.forgets and len(image.tags) > 1:
                image.tags.pop()
            elif not (by_name and self.deaf_to_names):
                self.images.remove(image)
        await call.send(b"")
        await call.finish()

    async def _usage(self, call: ServedCall) -> None:
        place = wire.length_delimited(2, wire.text_field(1, "/"))
        used = wire.length_delimited(3, wire.varint_field(1, 77))
        await call.send(wire.length_delimited(1, wire.varint_field(1, 5) + place + used))
        await call.finish()

    async def _list_containers(self, call: ServedCall) -> None:
        await call.send(b"".join(wire.length_delimited(1, container) for container in self.containers))
        await call.finish()


def container(identity: str, *, image: str = "", image_ref: str = "", image_id: str = "") -> bytes:
    """A Container as a list has it."""
    spec = wire.length_delimited(4, wire.text_field(1, image))
    return wire.text_field(1, identity) + spec + wire.text_field(5, image_ref) + wire.text_field(10, image_id)


@asynccontextmanager
async def written_runtime(
    path: Path, name: str = "containerd", versions: tuple[str, ...] = ("v1", "v1alpha2")
) -> AsyncIterator[WrittenRuntime]:
    """Runs one at a socket until the block is left.

    Args:
        path: of the socket.
        name: `cri-o` and `docker` come with the ways of those.
        versions: of the API.
    """
    async with ScriptedRuntime(path, versions=versions) as server:
        made = WrittenRuntime(server, name, prefixed=name != "cri-o", untags=name == "cri-o")
        made.deaf_to_names = name == "docker"
        for version in versions:
            made.install(version)
        yield made


def refusing(message: str, status: int = UNKNOWN) -> Script:
    """An answer that is an error."""
    return Script(status=status, text=message)
