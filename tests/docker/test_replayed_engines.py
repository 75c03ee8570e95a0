"""Engines that cannot be had here, replayed from the facts of section 8: answers are made up, the HTTP is real."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from criimage.errors import AccessDenied, BackendUnavailable, CriimageError, OperationFailed, RegistryUnavailable
from criimage_docker.engine import bounded_response
from parts.docker_backend import docker_backend, listed, pull, status
from parts.replayed_engine import replayed
from parts.serving import until

if TYPE_CHECKING:
    from pathlib import Path

ID = "sha256:" + "ab" * 32
TAG = "reg.example/lib/busybox:1"
LISTED = {"Id": ID, "RepoTags": [TAG], "RepoDigests": [], "Size": 5, "Created": 1}
TOO_OLD = {"message": "client version 1.51 is too old. Minimum supported API version is 1.52, please upgrade"}


async def test_an_engine_that_wants_a_newer_version(tmp_path: Path) -> None:
    """Section 8, A5: the version it asks for is spoken, and kept when its pulse is taken again (replayed)."""
    answers = {"GET /v1.51/images/json": (400, TOO_OLD), "GET /v1.52/images/json": (200, [LISTED])}
    async with (
        replayed(tmp_path, answers) as replay,
        docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend,
    ):
        for _ in range(3):
            assert await listed(backend) == {ID}
            assert await backend.check() == ()

    assert replay.asked.count("GET /v1.51/images/json") == 1


@pytest.mark.parametrize("date", ["yesterday", "1 Jan 2024 00:00:00 +99999999999999999999"])
async def test_a_clock_that_cannot_be_read(tmp_path: Path, date: str) -> None:
    """An engine, or a proxy before it, may send any text for its date: then the time is not known, and no more."""
    answers = {"GET /v1.51/images/json": (200, [LISTED])}
    async with (
        replayed(tmp_path, answers, date=date),
        docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend,
    ):
        assert await backend.check() == ()
        assert await listed(backend) == {ID}


async def test_an_inspect_without_empty_fields(tmp_path: Path) -> None:
    """Section 8: from API 1.52 on an inspect leaves out what is empty (replayed)."""
    answers = {
        "GET /v1.51/images/json": (200, [LISTED]),
        f"GET /v1.51/images/{ID}/json": (200, {"Id": ID, "RepoTags": [TAG], "Size": 5}),
        f"GET /v1.51/images/{ID}/history": (200, []),
    }
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend:
        found = await status(backend, TAG, verbose=True)

    assert found is not None
    assert found.user is None
    assert list(found.info) == ["info"]


async def test_the_new_account(tmp_path: Path) -> None:
    """Section 8, F6: from API 1.53 on the account has another form (replayed)."""
    answers = {
        "GET /v1.51/images/json": (200, [LISTED]),
        "GET /v1.51/info": (200, {"DockerRootDir": "/data"}),
        "GET /v1.51/system/df": (200, {"ImagesUsage": {"TotalSize": 77}}),
    }
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend:
        usage = await backend.usage()

    assert (usage.images[0].used_bytes, usage.images[0].mountpoint) == (77, "/data")


async def test_errors_in_their_new_place(tmp_path: Path) -> None:
    """P10: from API 1.48 on `errorDetail` alone counts; P13: its code too (replayed)."""
    stream = b'{"status":"Pulling from lib/busybox","id":"1"}\r\n{"errorDetail":{"code":503,"message":"busy"}}\r\n'
    answers = {"POST /v1.51/images/create": (200, stream)}
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend:
        with pytest.raises(RegistryUnavailable, match="busy"):
            await pull(backend, TAG)


@pytest.mark.parametrize("stream", [b"", b'{"status":"Pulling from lib/busybox","id":"1"}\r\n'])
async def test_a_stream_without_a_result(tmp_path: Path, stream: bytes) -> None:
    """A4: a pull that ends without its last line is none."""
    answers = {"POST /v1.51/images/create": (200, stream)}
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend:
        with pytest.raises(BackendUnavailable, match="without a result"):
            await pull(backend, TAG)


async def test_a_result_without_an_image(tmp_path: Path) -> None:
    """A4: the last line is a promise; without the image there is no success."""
    answers = {
        "POST /v1.51/images/create": (200, b'{"status":"Status: Downloaded newer image for x"}\n'),
        "GET /v1.51/images/json": (200, []),
    }
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend:
        with pytest.raises(OperationFailed, match="removed while it was pulled"):
            await pull(backend, TAG)


async def test_answers_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer beyond the bound is an error that says so (issue 8); aiohttp by itself keeps whatever comes.

    The list, a pull that is refused, and a pulse; with sensible answers all is well again. A stream has no bound.
    """
    monkeypatch.setattr(bounded_response, "ANSWER_LIMIT", 2000)
    said: dict[str, tuple[int, object]] = {
        "GET /v1.51/images/json": (200, [LISTED | {"Labels": {"x": "y" * 3000}}]),
        "POST /v1.51/images/create": (500, {"message": "n" * 3000}),
        "GET /_ping": (200, b"p" * 3000),
    }
    async with replayed(tmp_path, said), docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend:
        with pytest.raises(BackendUnavailable, match="no Docker engine"):
            await backend.images()
        del said["GET /_ping"]
        with pytest.raises(CriimageError, match="cannot be read: it is longer than"):
            await backend.images()
        with pytest.raises(CriimageError, match="cannot be read: it is longer than"):
            await pull(backend, TAG)
        said["GET /v1.51/images/json"] = (200, [LISTED])
        said["POST /v1.51/images/create"] = (200, b'{"status":"Waiting","id":"1"}\r\n' * 200)
        assert await listed(backend) == {ID}
        with pytest.raises(BackendUnavailable, match="without a result"):
            await pull(backend, TAG)


async def test_what_is_no_engine(tmp_path: Path) -> None:
    """A5: something else that listens there is told, and an engine that is too old as well."""
    for api, words in (("", "no Docker engine"), ("1.12", "too old")):
        async with replayed(tmp_path, {}, api), docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
            with pytest.raises(BackendUnavailable, match=words):
                await backend.images()
            (problem,) = await backend.check()
            assert words in problem.text


@pytest.mark.parametrize(
    ("api", "store", "told"),
    [
        ("1.41", "overlay", ["cri-dockerd", "without a name", "hangs"]),
        ("1.42", "overlay", ["without a name", "hangs"]),
        ("1.45", "io.containerd.snapshotter.v1", ["prunes"]),
        ("1.51", "io.containerd.snapshotter.v1", []),
    ],
)
async def test_what_an_engine_cannot_do_is_told(tmp_path: Path, api: str, store: str, told: list[str]) -> None:
    """Issue 10.9: `config check` says which engine cri-dockerd refuses, and which does not tell or stop everything."""
    answers = {f"GET /v{api}/info": (200, {"DriverStatus": [["driver-type", store]]})}
    async with replayed(tmp_path, answers, api), docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        limits = await backend.limits()

    assert len(limits) == len(told)
    for limit, words in zip(limits, told, strict=True):
        assert words in limit.text


@pytest.mark.parametrize(
    "text",
    [
        f"rpc error: code = NotFound desc = content digest {ID}: not found",
        "failed to calculate size of image reg.example/a:1: failed to get rootfs of image reg.example/a:1",
    ],
)
async def test_a_list_that_an_image_went_away_from_is_asked_for_again(tmp_path: Path, text: str) -> None:
    """26.1 with the containerd store (tried) fails to list while another image is removed; other failures are final."""
    answers: dict[str, tuple[int, object]] = {"GET /v1.51/images/json": (500, {"message": text})}
    async with (
        replayed(tmp_path, answers, "1.51") as replay,
        docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend,
    ):
        listing = asyncio.create_task(listed(backend))
        await until(lambda: replay.asked.count("GET /v1.51/images/json") >= 2)
        answers["GET /v1.51/images/json"] = (200, [LISTED])
        assert await listing == {ID}

        answers["GET /v1.51/images/json"] = (500, {"message": "no space"})
        before = replay.asked.count("GET /v1.51/images/json")
        with pytest.raises(OperationFailed, match="no space"):
            await listed(backend)
        assert replay.asked.count("GET /v1.51/images/json") == before + 1


async def test_an_engine_that_cannot_ask_for_a_proof(tmp_path: Path) -> None:
    """Issue 10.1: below API 1.30 a pull by digest cannot be proven; such an engine is refused, with the reason."""
    async with replayed(tmp_path, {}, "1.29") as replay, docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        with pytest.raises(BackendUnavailable, match=r"too old.*1\.29.*1\.30"):
            await pull(backend, TAG)

    assert not [one for one in replay.asked if one.startswith("POST")]


async def test_an_engine_that_became_another_meanwhile(tmp_path: Path) -> None:
    """Issue 10.1: taken for the containerd store, and a graph driver by its answer: the registry is asked still."""
    digest = "sha256:" + "cd" * 32
    name = f"reg.example/lib/busybox@{digest}"
    inspected = {"Id": ID, "RepoTags": [], "RepoDigests": [name], "Size": 5}
    answers = {
        "GET /v1.51/info": (200, {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}),
        "POST /v1.51/images/create": (200, b'{"status":"Status: Image is up to date for x"}\n'),
        f"GET /v1.51/images/{name}/json": (200, inspected),
        "GET /v1.51/images/json": (200, [inspected]),
        f"GET /v1.51/distribution/{name}/json": (401, {"message": "unauthorized: authentication required"}),
    }
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend:
        with pytest.raises(AccessDenied):
            await pull(backend, name)


async def test_why_there_is_no_connection_is_told(tmp_path: Path) -> None:
    """The system's reason where it has one, such as a missing file; of an engine that hangs up, that it did."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")  # what is not read makes a reset of it
        writer.close()

    place = tmp_path / "docker.sock"
    async with docker_backend(f"unix://{place}", cache=False) as backend:
        (problem,) = await backend.check()
        assert "no such file or directory; is it running?" in problem.text
        async with await asyncio.start_unix_server(hang_up, place):
            (problem,) = await backend.check()
        assert "the connection was closed; is it running?" in problem.text
