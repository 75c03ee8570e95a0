"""Claims: what a pull is asked with reaches the runtime as it is; what a runtime cannot promise is not promised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from cri_backend.written_runtime import (
    DIGEST,
    RUNTIMES,
    an_image,
    refusing,
    spelled,
    text,
    written_runtime,
)
from criimage import wire
from criimage.backend import PullContext
from criimage.credentials import Credentials
from criimage.errors import (
    InvalidRequest,
    OperationFailed,
    RegistryUnavailable,
)
from criimage.reference import Name
from criimage.testing.scripted_runtime import Script
from parts.cri_backend import cri_backend, listed, pull
from parts.serving import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("image_ref", ["id", "digest"])
async def test_a_pull_carries_everything(socket: Path, name: str, image_ref: str) -> None:
    """Annotations, runtime handler, credentials and a sandbox config with fields of the future reach the runtime."""
    sandbox = wire.length_delimited(1, wire.text_field(1, "pod")) + wire.length_delimited(999, b"\xff\x00 new")
    context = PullContext("ns", "pod", {"b": "2", "a": "1"}, "kata", sandbox)
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image(name)
        runtime.image_ref = image_ref
        pulled = await pull(backend, "reg.example/a:1", Credentials("me", "s3cret"), context=context)
        (request,) = runtime.server.called("PullImage")[0].messages

        assert str(pulled.id) == spelled(name)
        assert await listed(backend) == (pulled,)
    fields = {number: value for number, _, value in wire.fields(request)}
    assert fields[3] == sandbox
    assert (text(request, 2, 1), text(request, 2, 2), text(request, 2, 4)) == ("me", "s3cret", "")
    assert text(request, 1, 19) == "kata"
    annotations = [value for number, _, value in wire.fields(fields[1]) if number == 2]  # type: ignore[arg-type]
    assert {text(one, 1): text(one, 2) for one in annotations if isinstance(one, bytes)} == {"a": "1", "b": "2"}


async def test_tokens_reach_the_runtime(socket: Path) -> None:
    """Identity and registry token go as what they are, without a name and a password that nobody gave."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image("containerd")
        tokens = Credentials(identity_token="who", registry_token="may")  # noqa: S106
        await pull(backend, "reg.example/a:1", tokens)
        (request,) = runtime.server.called("PullImage")[0].messages
    fields = {number: value for number, _, value in wire.fields(request)}
    auth = fields[2]
    assert isinstance(auth, bytes)
    assert [(number, value) for number, _, value in wire.fields(auth)] == [(5, b"who"), (6, b"may")]


@pytest.mark.parametrize("name", RUNTIMES)
async def test_a_runtime_that_tells_no_downloads_promises_no_progress(socket: Path, name: str) -> None:
    """What is behind a name alone counts for nothing: without containerd's content service nothing is reported."""
    phases: list[object] = []
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image(name)
        await pull(backend, "reg.example/a:1", report=phases.append)
        assert backend.reports_progress is False
    assert len(phases) <= 1


async def test_credentials_that_are_no_utf8_go_as_they_are(socket: Path) -> None:
    """As `auth`, which holds any bytes; cri-dockerd does not read that, so they are refused there."""
    odd = Credentials("me", b"\xffx".decode("utf-8", "surrogateescape"))
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image("containerd")
        await pull(backend, "reg.example/a:1", odd)
        (request,) = runtime.server.called("PullImage")[0].messages
        assert text(request, 2, 3) == "bWU6/3g="
        assert text(request, 2, 1) == ""
        runtime.name = "docker"
        await backend.check()
        with pytest.raises(InvalidRequest):
            await pull(backend, "reg.example/a:1", odd)
        assert len(runtime.server.called("PullImage")) == 1


@pytest.mark.parametrize(("name", "goes_up"), [("containerd", "docker.io/library/app:latest"), ("cri-o", "app:latest")])
async def test_a_short_name_means_what_it_means_to_the_runtime(socket: Path, name: str, goes_up: str) -> None:
    """docker.io with containerd; CRI-O has search registries and aliases of its own, so it gets the name as typed."""
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        (reference,) = await backend.resolve(Name.parse("app"))
        (complete,) = await backend.resolve(Name.parse("docker.io/library/app"))
        runtime.pulls[goes_up] = an_image(name)
        await backend.pull(reference, None, PullContext(), lambda progress: None)
        assert text(runtime.server.called("PullImage")[0].messages[0], 1, 1) == goes_up
        assert (reference == complete) is (name == "containerd")


async def test_an_engine_that_would_not_ask_gives_no_proof(socket: Path) -> None:
    """A digest that cri-dockerd has: refused, or allowed by the setting; what it does not have is pulled."""
    reference = f"reg.example/a@{DIGEST}"
    async with written_runtime(socket, "docker") as runtime:
        runtime.pulls[reference] = an_image("docker")
        async with cri_backend(f"unix://{socket}") as backend:
            await pull(backend, reference, Credentials("me", "right"))
            with pytest.raises(OperationFailed, match="would not ask the registry"):
                await pull(backend, reference, Credentials("you", "wrong"))
            assert len(runtime.server.called("PullImage")) == 1
            assert len(await backend.limits()) == 2
        sources: list[str] = []
        async with cri_backend(f"unix://{socket}", allow_unproven_pulls=True) as backend:
            you = Credentials("you", "wrong")
            await pull(backend, reference, you, report=lambda progress: sources.append(progress.credential_source))
            assert sources == [""]


async def test_a_cancelled_pull_is_cancelled_at_the_runtime(socket: Path) -> None:
    """The call is reset there before long."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.server.on("/runtime.v1.ImageService/PullImage", Script(stall_after=0))
        pulling = asyncio.create_task(pull(backend, "reg.example/a:1"))
        await until(lambda: runtime.server.called("PullImage"))
        pulling.cancel()
        await until(lambda: runtime.server.called("PullImage")[0].cancelled)
        assert pulling.cancelled()


async def test_equal_failures_have_equal_texts(socket: Path) -> None:
    """Ports, resolvers and names of unfinished work are left out; passwords never come through."""
    name = "reg.example/a:1"
    said = [
        f'pull "{name}": read tcp 10.0.0.2:{port}->10.0.0.1:443: read: connection reset by peer; me:s3cret-canary'
        for port in (40001, 40002)
    ]
    texts = []
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        for words in said:
            runtime.server.on("/runtime.v1.ImageService/PullImage", refusing(words))
            with pytest.raises(RegistryUnavailable) as refused:
                await pull(backend, name, Credentials("me", "s3cret-canary"))
            texts.append(refused.value.text)
    assert texts[0] == texts[1]
    assert "s3cret-canary" not in texts[0]
