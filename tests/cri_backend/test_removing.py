"""Claims: a removal takes an image with all its names, whatever runtime has it, and never one that is in use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from cri_backend.written_runtime import (
    DIGEST,
    ONE,
    OTHER,
    RUNTIMES,
    Stored,
    an_image,
    container,
    refusing,
    spelled,
    written_runtime,
)
from criimage.errors import (
    ImageInUse,
    OperationFailed,
)
from criimage.testing.scripted_runtime import Script, ServedCall
from parts.cri_backend import cri_backend, remove
from parts.serving import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("form", [ONE, f"sha256:{ONE}", ONE[:12], "reg.example/a:1", f"reg.example/a@{DIGEST}"])
async def test_removal_takes_all_names(socket: Path, name: str, form: str) -> None:
    """By whatever it is called; other images stay; a second removal is OK."""
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image(name), Stored(spelled(name, OTHER), ["reg.example/b:1"])]
        await remove(backend, form)
        await remove(backend, form)
        assert [image.id for image in runtime.images] == [spelled(name, OTHER)]


async def test_a_runtime_that_takes_one_name_a_call_is_called_again(socket: Path) -> None:
    """Several calls, until the image is gone."""
    async with written_runtime(socket, "somebody") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("somebody")]
        runtime.forgets = True
        await remove(backend, "reg.example/a:1")
        assert runtime.images == []


async def test_a_tag_that_moves_to_another_image_meanwhile_stays_there(socket: Path) -> None:
    """Asked for name by name, the runtime would remove whatever image has the name by then."""
    async with written_runtime(socket, "somebody") as runtime, cri_backend(f"unix://{socket}") as backend:
        first, newer = an_image("somebody"), Stored(spelled("somebody", OTHER), ["reg.example/a:2"])
        runtime.images = [first]
        runtime.forgets = True

        async def remove_and_move(call: ServedCall) -> None:
            await runtime._remove(call)
            if "reg.example/a:2" in first.tags:
                first.tags.remove("reg.example/a:2")
                runtime.images.append(newer)

        runtime.server.on("/runtime.v1.ImageService/RemoveImage", remove_and_move)
        await remove(backend, f"sha256:{ONE}")
        assert runtime.images == [newer]


async def test_a_runtime_that_keeps_the_image_is_no_ok(socket: Path) -> None:
    """OK without a removal is told as a failure."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", Script())
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", Script(messages=(b"",)))
        with pytest.raises(OperationFailed, match="still has it"):
            await remove(backend, ONE)


@pytest.mark.parametrize(
    "uses",
    [
        {"image": "reg.example/a:1", "image_ref": f"sha256:{ONE}"},
        {"image": "reg.example/a:1", "image_ref": f"reg.example/a@{DIGEST}", "image_id": ONE},
        {"image": f"sha256:{ONE}", "image_ref": f"docker-pullable://reg.example/a@{DIGEST}"},
        {"image": "reg.example/a:1", "image_ref": "docker://sha256:" + ONE},
        {"image": "reg.example/a:1"},
        {"image": "reg.example/moved:1", "image_ref": f"reg.example/a@{DIGEST}"},
    ],
    ids=["containerd", "cri-o", "cri-dockerd", "cri-dockerd by id", "name only", "digest only"],
)
async def test_an_image_in_use_loses_nothing(socket: Path, uses: dict[str, str]) -> None:
    """In whichever field a runtime names the image: ImageInUse, and no RemoveImage goes up."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        runtime.containers = [container("c1", **uses)]
        for text in (ONE, "reg.example/a:2"):
            with pytest.raises(ImageInUse, match="c1"):
                await remove(backend, text)
        assert runtime.server.called("RemoveImage") == []


async def test_a_container_of_an_image_that_lost_its_name_holds_only_that(socket: Path) -> None:
    """The name it was made with is another image's now: an ID decides."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd"), Stored(spelled("", OTHER))]
        runtime.containers = [container("c1", image="reg.example/a:1", image_ref=f"sha256:{OTHER}")]
        await remove(backend, "reg.example/a:1")
        assert [image.id for image in runtime.images] == [spelled("", OTHER)]


async def test_what_the_runtime_calls_in_use_is_in_use(socket: Path) -> None:
    """CRI-O refuses what an image volume uses, which no list of containers shows."""
    async with written_runtime(socket, "cri-o") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("cri-o")]
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", refusing(f"image used by 1b2: image {ONE} is in use"))
        with pytest.raises(ImageInUse):
            await remove(backend, ONE)


async def test_removals_at_once_all_succeed_where_the_runtime_lets_some_fail(socket: Path) -> None:
    """A cri-dockerd answers some of them with a conflict; the image is gone, so all are OK."""
    async with written_runtime(socket, "docker") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("docker")]
        await asyncio.gather(*(remove(backend, text) for text in (ONE, ONE[:12], "reg.example/a:1", "reg.example/a:2")))
        assert runtime.images == []
        assert len(runtime.server.called("RemoveImage")) == 1


async def test_a_removal_that_is_cut_off_is_cancelled_at_the_runtime(socket: Path) -> None:
    """The call is reset there, and the image can be removed by the next one (issue 8, item 2)."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", Script(stall_after=0))
        removing = asyncio.create_task(remove(backend, "reg.example/a:1"))
        await until(lambda: runtime.server.called("RemoveImage"))
        removing.cancel()
        await until(lambda: runtime.server.called("RemoveImage")[0].cancelled)
        with pytest.raises(asyncio.CancelledError):
            await removing
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", runtime._remove)
        await remove(backend, "reg.example/a:1")
        assert runtime.images == []
