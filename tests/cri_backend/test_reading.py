"""Claims: images are found, listed and measured the same whatever runtime has them, and odd answers hide nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cri_backend.written_runtime import (
    DIGEST,
    ONE,
    OTHER,
    RUNTIMES,
    Stored,
    an_image,
    hexadecimal,
    spelled,
    written_runtime,
)
from criimage import wire
from criimage.backend import User
from criimage.errors import (
    OperationFailed,
    PullError,
)
from criimage.reference import Lookup
from criimage.testing.scripted_runtime import Script
from criimage_cri.records import details_of
from criimage_cri.runtimes import Runtime
from parts.cri_backend import cri_backend, listed, pull, status

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", RUNTIMES)
async def test_every_form_of_a_name_finds_the_image(socket: Path, name: str) -> None:
    """ID in both spellings, its beginnings, tags and digest give equal answers, in the runtime's own ID format."""
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image(name), an_image(name, OTHER)]
        runtime.images[1].tags = runtime.images[1].digests = []
        texts = [ONE, f"sha256:{ONE}", ONE[:12], f"sha256:{ONE[:12]}", "reg.example/a:1", f"reg.example/a@{DIGEST}"]
        found = [await status(backend, text) for text in texts]
        filtered = [await listed(backend, text) for text in texts]

        assert found[0] is not None
        assert str(found[0].image.id) == spelled(name)
        assert found == [found[0]] * len(texts)
        assert filtered == [(found[0].image,)] * len(texts)
        assert [str(tag) for tag in found[0].image.tags] == ["reg.example/a:1", "reg.example/a:2"]
        for absent in ("CAFE", hexadecimal("none"), "reg.example/b:1", hexadecimal("none")[:20]):
            assert await status(backend, absent) is None, absent


async def test_what_is_gone_is_not_kept(socket: Path) -> None:
    """Images that come and go, or change their words, leave no memory behind."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        for number in range(5):
            runtime.images = [an_image("containerd", hexadecimal(f"{number} {one}")) for one in range(3)]
            assert len(await backend.images()) == 3
        assert len(backend._view._read) == 3


async def test_an_answer_about_something_else_is_none(socket: Path) -> None:
    """A runtime that finds by two digits, or answers with another image, is not believed."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        answer = Script(messages=(wire.length_delimited(1, an_image("containerd").encoded()),))
        runtime.server.on("/runtime.v1.ImageService/ImageStatus", answer)
        for text in (ONE[:2], "reg.example/a:3", "reg.example/b:1", OTHER):
            assert await status(backend, text) is None, text


async def test_labels_break_no_client(socket: Path) -> None:
    """cri-dockerd puts labels beside `info`: what crictl would take for JSON and is none is left out (S8)."""
    whole = {"plain": "text", "info": '{"a": 1}'}
    entries = {**whole, "broken": "{{ template", "number": '{"a": NaN}', "large": '{"a": 1e999}'}
    async with written_runtime(socket, "docker") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("docker")]
        answer = wire.length_delimited(1, an_image("docker").encoded())
        for key, value in entries.items():
            answer += wire.length_delimited(2, wire.text_field(1, key) + wire.text_field(2, value))
        runtime.server.on("/runtime.v1.ImageService/ImageStatus", Script(messages=(answer,)))
        found = await backend.status(Lookup.parse("reg.example/a:1"), verbose=True)
    assert found is not None
    assert found.info == whole


async def test_the_same_bytes_are_the_same_values(socket: Path) -> None:
    """An unchanged list is the same tuple, in whatever order it comes; one new image leaves the others as they are."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd"), Stored(spelled("", OTHER), ["reg.example/b:1"])]
        before = await backend.images()
        assert await backend.images() is before
        runtime.order = -1
        assert await backend.images() is before
        runtime.images.append(Stored(spelled("", hexadecimal("third")), ["reg.example/c:1"]))
        after = await backend.images()
        assert len(after) == 3
        assert {id(image) for image in before} < {id(image) for image in after}
        details = await status(backend, ONE)
        assert details is not None
        assert details.image == next(image for image in after if image.id.hex == ONE)
        runtime.images[0].tags.pop()
        assert [len(image.tags) for image in await backend.images() if image.id.hex == ONE] == [1]


async def test_odd_images_hide_no_other(socket: Path) -> None:
    """Names that are none are left out, an image without an ID or of broken bytes too; halves of one are joined."""
    async with written_runtime(socket, "cri-o") as runtime, cri_backend(f"unix://{socket}") as backend:
        parts = [
            Stored(ONE, ["<none>:<none>", "reg.example/a:1"], [f"127.0.0.1@{DIGEST}", "<none>@<none>"]).encoded(),
            Stored(ONE, ["reg.example/a:2"]).encoded(),
            Stored("", ["reg.example/b:1"]).encoded(),
            Stored("no id", ["reg.example/b:1"]).encoded(),
            b"\x0a\xff",
        ]
        answer = b"".join(wire.length_delimited(1, part) for part in parts)
        runtime.server.on("/runtime.v1.ImageService/ListImages", Script(messages=(answer,)))
        (image,) = await backend.images()
        assert [str(tag) for tag in image.tags] == ["reg.example/a:1", "reg.example/a:2"]
        assert image.digests == ()


async def test_the_engines_familiar_names_are_complete(socket: Path) -> None:
    """cri-dockerd lists `busybox:1`, which is docker.io's."""
    async with written_runtime(socket, "docker") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [Stored(spelled("docker"), ["busybox:1"], [f"busybox@{DIGEST}"])]
        (image,) = await backend.images()
        assert [str(name) for name in (*image.tags, *image.digests)] == [
            "docker.io/library/busybox:1",
            f"docker.io/library/busybox@{DIGEST}",
        ]


async def test_what_the_runtime_pins_is_pinned(socket: Path) -> None:
    """The sandbox image as the runtime marks it, and no other: a kubelet never removes what is pinned."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        pinned, other = (
            an_image("containerd").encoded() + wire.varint_field(8, 1),
            an_image("containerd", OTHER).encoded(),
        )
        answer = b"".join(wire.length_delimited(1, one) for one in (pinned, other))
        runtime.server.on("/runtime.v1.ImageService/ListImages", Script(messages=(answer,)))
        assert {image.id.hex: image.pinned for image in await backend.images()} == {ONE: True, OTHER: False}


async def test_usage_fills_both_lists(socket: Path) -> None:
    """Containerd leaves the list for containers empty: then it is the images'."""
    async with written_runtime(socket), cri_backend(f"unix://{socket}") as backend:
        usage = await backend.usage()
        assert usage.images == usage.containers
        assert (usage.images[0].mountpoint, usage.images[0].used_bytes, usage.images[0].inodes_used) == ("/", 77, None)


async def test_an_answer_that_cannot_be_decoded_is_a_failure(socket: Path) -> None:
    """Broken bytes of a whole answer are an error, never an empty list."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.server.on("/runtime.v1.ImageService/ListImages", Script(messages=(b"\x0a\xff",)))
        runtime.server.on("/runtime.v1.ImageService/ImageStatus", Script(messages=(b"\x0a\xff",)))
        with pytest.raises(OperationFailed, match="cannot be decoded"):
            await backend.images()
        with pytest.raises(OperationFailed, match="cannot be decoded"):
            await status(backend, "reg.example/a:1")
        with pytest.raises(PullError):
            await pull(backend, "reg.example/none:1")


@pytest.mark.parametrize("uid", [0, 1, 2**31, 2**63 - 1, -1, -(2**63)])
def test_a_users_number_is_what_the_runtime_says(uid: int) -> None:
    """An Int64Value in full, the negative ones included, which protobuf writes as very large ones."""
    message = wire.text_field(1, ONE) + wire.length_delimited(5, wire.varint_field(1, uid)) + wire.text_field(6, "no")
    found = details_of(message, Runtime("containerd"))
    assert found is not None
    assert found.user == User(uid=uid)
