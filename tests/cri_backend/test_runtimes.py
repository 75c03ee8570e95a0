"""Claims: a runtime with one version of the API, one that is down and one that lacks something are each told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cri_backend.written_runtime import (
    ONE,
    an_image,
    refusing,
    written_runtime,
)
from criimage import wire
from criimage.errors import (
    BackendUnavailable,
    OperationFailed,
)
from criimage_cri.runtimes import Runtime
from parts.cri_backend import cri_backend, pull, remove, status

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path


async def test_what_a_call_costs_the_runtime(socket: Path) -> None:
    """A list, a status and a usage one call each; a pull the pull and one status; a removal six short ones."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image("containerd")
        await pull(backend, "reg.example/a:1")

        async def cost(work: Awaitable[object]) -> list[str]:
            before = len(runtime.server.calls)
            await work
            return [call.path.rpartition("/")[2] for call in runtime.server.calls[before:]]

        assert await cost(pull(backend, "reg.example/a:1")) == ["PullImage", "ImageStatus"]
        assert await cost(backend.images()) == ["ListImages"]
        assert await cost(status(backend, "reg.example/a:1")) == ["ImageStatus"]
        assert await cost(backend.usage()) == ["ImageFsInfo"]
        # A verbose answer costs a runtime more, and nobody has asked for one.
        for call in runtime.server.called("ImageStatus"):
            assert [number for number, _, _ in wire.fields(call.messages[0])] == [1]
        looked = ["ImageStatus", "ImageStatus", "ListContainers", "RemoveImage", "ImageStatus", "ImageStatus"]
        assert await cost(remove(backend, "reg.example/a:1")) == looked


@pytest.mark.parametrize("version", ["v1", "v1alpha2"])
async def test_either_version_of_the_api_will_do(socket: Path, version: str) -> None:
    """A runtime with one of them only is asked in that one, and a restart with the other is noticed."""
    async with written_runtime(socket, versions=(version,)) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        assert await backend.check() == ()
        assert len(await backend.images()) == 1
        await remove(backend, ONE)
        assert runtime.images == []
        asked = [call.path.split(".")[1] for call in runtime.server.calls][-3:]
        assert set(asked) == {version}
        other = "v1alpha2" if version == "v1" else "v1"
        runtime.install(other)
        await runtime.server.restart((other,))
        assert await backend.images() == ()


async def test_a_runtime_that_is_down_or_hangs_is_told(socket: Path) -> None:
    """UNAVAILABLE at once with the socket in the text, after request_timeout where it hangs, and well again after."""
    async with (
        written_runtime(socket) as runtime,
        cri_backend(f"unix://{socket}", request_timeout="2s") as backend,
    ):
        runtime.images = [an_image("containerd")]
        assert len(await backend.images()) == 1
        await runtime.server.stop()
        with pytest.raises(BackendUnavailable, match=str(socket)):
            await backend.images()
        (problem,) = await backend.check()
        assert str(socket) in problem.text + problem.remedy
        with pytest.raises(BackendUnavailable):
            await pull(backend, "reg.example/a:1")
        await runtime.server.start()
        assert len(await backend.images()) == 1
        runtime.server.go_deaf()
        with pytest.raises(BackendUnavailable, match="did not answer within 2s"):
            await backend.images()
        runtime.server.hear_again()
        assert len(await backend.images()) == 1


async def test_a_runtime_is_looked_at_when_it_is_another(socket: Path) -> None:
    """Whether it has an image service is asked once, again when another answers, always of one without a name."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        for count in (1, 1):
            assert await backend.check() == ()
            assert len(runtime.server.called("ImageFsInfo")) == count
        runtime.name = "cri-o"
        for count in (2, 2):
            assert await backend.check() == ()
            assert len(runtime.server.called("ImageFsInfo")) == count
        for version in ("v1", "v1alpha2"):
            runtime.server.on(f"/runtime.{version}.RuntimeService/Version", refusing("not now"))
        for count in (3, 4):
            assert await backend.check() == ()
            assert len(runtime.server.called("ImageFsInfo")) == count


async def test_an_answer_is_no_reason_to_ask_who_it_is(socket: Path) -> None:
    """An error of the runtime's leaves what is known of it; a lost connection does not: another may come back."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        assert await backend.check() == ()
        upstream = backend._upstream
        assert upstream._runtime == Runtime("containerd", "1.0")
        runtime.server.on("/runtime.v1.ImageService/ImageStatus", refusing("not now"))
        with pytest.raises(OperationFailed):
            await status(backend, "reg.example/a:1")
        assert upstream._runtime is not None
        await runtime.server.stop()
        with pytest.raises(BackendUnavailable):
            await status(backend, "reg.example/a:1")
        assert upstream._runtime is None


def test_what_a_runtime_cannot_do_is_told_first_and_then_what_to_do() -> None:
    """Two things cri-dockerd cannot; the others can do both."""
    limits = Runtime("docker", "0.3.4").limits()
    assert [limit.text.startswith("cri-dockerd ") for limit in limits] == [True, True]
    assert [limit.remedy.startswith("cri-dockerd ") for limit in limits] == [False, False]
    assert [Runtime(name).limits() for name in ("containerd", "cri-o")] == [(), ()]


async def test_a_runtime_without_an_image_service_is_a_problem(socket: Path) -> None:
    """As containerd with its CRI plugin off."""
    async with written_runtime(socket, versions=()), cri_backend(f"unix://{socket}") as backend:
        (problem,) = await backend.check()
        assert "no CRI image service" in problem.text
        assert "disabled_plugins" in problem.remedy


async def test_a_runtime_that_cannot_tell_its_usage_still_has_images(socket: Path) -> None:
    """An error of ImageFsInfo is one of that call only."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        runtime.server.on("/runtime.v1.ImageService/ImageFsInfo", refusing("statfs: input/output error"))
        assert await backend.check() == ()
        assert len(await backend.images()) == 1
        with pytest.raises(OperationFailed, match="input/output error"):
            await backend.usage()
