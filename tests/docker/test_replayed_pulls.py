"""What becomes of a pull whose engine, registry and other callers do things in an order that real ones leave to chance.

The engine is replayed: its answers are made up, the HTTP is real.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import create_autospec

import pytest

from criimage import tracing
from criimage.backend import Phase, PullProgress
from criimage.errors import AccessDenied, PullError
from criimage_docker.pulling import puller
from parts.docker_backend import docker_backend, following, listed, pull, status
from parts.replayed_engine import Replay, Stream, replayed
from parts.serving import until

if TYPE_CHECKING:
    from pathlib import Path

ID = "sha256:" + "ab" * 32
TAG = "reg.example/lib/busybox:1"
BY_DIGEST = "reg.example/lib/busybox@sha256:" + "cd" * 32
GRAPH = {"Id": ID, "RepoTags": [TAG], "RepoDigests": [BY_DIGEST], "Size": 5, "Created": 1}
CONTAINERD = GRAPH | {"RepoDigests": [f"reg.example/lib/busybox@{ID}"]}
UP_TO_DATE = b'{"status":"Status: Image is up to date for x"}\r\n'
NEWER = {"status": "Status: Downloaded newer image for x"}
CREATE = "POST /v1.51/images/create"
LIST = "GET /v1.51/images/json"
PROOF = f"GET /v1.51/distribution/{BY_DIGEST}/json"
INSPECT_TAG = f"GET /v1.51/images/{TAG}/json"


def engine_with(image: dict[str, object], *, store: str = "overlay2") -> dict[str, tuple[int, object]]:
    """Answers of an engine that has one image, and whose events never come."""
    return {
        "GET /v1.51/info": (200, {"DriverStatus": [["driver-type", store]]}),
        "GET /v1.51/events": (200, Stream()),
        LIST: (200, [image]),
        f"GET /v1.51/images/{ID}/json": (200, image),
        INSPECT_TAG: (200, image),
        f"GET /v1.51/images/{BY_DIGEST}/json": (200, image),
    }


async def test_a_refused_proof_ends_the_pull_that_goes_on_meanwhile(tmp_path: Path) -> None:
    """Issue 10.1: who may not have a digest that is here learns it at once, however long the engine's pull would go on.

    Nothing of it is left: the connection of the pull is closed, which is what ends it in the engine (P20).
    """
    pulling, proof = Stream(), Stream()
    answers = engine_with(GRAPH) | {CREATE: (200, pulling), PROOF: (401, proof)}
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        await following(backend)
        refused = asyncio.create_task(pull(backend, BY_DIGEST))
        await until(lambda: pulling.begun and proof.begun)
        proof.say({"message": "unauthorized: authentication required"})
        proof.end()

        with pytest.raises(AccessDenied):
            await refused
        await until(lambda: pulling.left)


@pytest.mark.parametrize("code", [200, 401])
async def test_a_pull_that_is_done_first_waits_for_its_proof(tmp_path: Path, code: int) -> None:
    """Issue 10.1: that the engine has the digest already is no success before the registry has answered."""
    proof = Stream()
    answers = engine_with(GRAPH) | {CREATE: (200, UP_TO_DATE), PROOF: (code, proof)}
    async with replayed(tmp_path, answers) as replay, docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        await following(backend)
        pulling = asyncio.create_task(pull(backend, BY_DIGEST))
        await until(lambda: proof.begun and CREATE in replay.asked)
        await listed(backend)
        assert not pulling.done()
        proof.say({"message": "unauthorized: authentication required"})
        proof.end()

        if code == 200:
            assert str((await pulling).id) == ID
        else:
            with pytest.raises(AccessDenied):
                await pulling


async def test_a_pull_that_fails_while_its_proof_is_open_ends_with_its_own_error(tmp_path: Path) -> None:
    """The proof comes first where it is refused; a registry that does not answer it holds up no failed pull."""
    failed = b'{"errorDetail":{"message":"filesystem layer verification failed"}}\r\n'
    proof = Stream()
    answers = engine_with(GRAPH) | {CREATE: (200, failed), PROOF: (200, proof)}
    async with replayed(tmp_path, answers), docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        await following(backend)

        with pytest.raises(PullError, match="verification failed"):
            await pull(backend, BY_DIGEST)
        await until(lambda: proof.left or not proof.begun)


async def test_silence_counts_as_work_only_while_the_engine_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P18: nothing is said of unpacking, so the engine's pulse stands for it; a silent download is a standstill."""
    monkeypatch.setattr(puller, "_PULSE_SECONDS", 0.002)
    stream = Stream()
    told: list[PullProgress] = []
    answers = engine_with(GRAPH) | {CREATE: (200, stream)}
    async with replayed(tmp_path, answers) as replay, docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        await following(backend)
        pulling = asyncio.create_task(pull(backend, TAG, report=told.append))
        stream.say({"id": "a", "status": "Downloading", "progressDetail": {"current": 3, "total": 5}})
        await until(lambda: told and told[-1].bytes_done == 3)
        pulses, activity = replay.asked.count("GET /_ping"), told[-1].activity
        await asyncio.sleep(0.05)
        assert (replay.asked.count("GET /_ping"), told[-1].activity) == (pulses, activity)

        stream.say({"id": "a", "status": "Download complete"})
        await until(lambda: told[-1].activity > activity + 5)
        assert told[-1].phase is Phase.UNPACKING
        assert replay.asked.count("GET /_ping") > pulses + 3
        stream.say(NEWER)
        stream.end()
        await pulling
        assert [one.phase for one in told][-1] is Phase.DONE


async def test_an_image_that_is_here_is_looked_at_when_nobody_waits(tmp_path: Path) -> None:
    """An unchanged pull of the containerd store is one request; the look that comes after it is not kept (P5, A8)."""
    stream = b'{"status":"Digest: %s"}\r\n' % ID.encode() + UP_TO_DATE
    answers = engine_with(CONTAINERD, store="io.containerd.snapshotter.v1") | {CREATE: (200, stream)}
    async with replayed(tmp_path, answers) as replay, docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        await following(backend)
        assert await status(backend, TAG)
        before = len(replay.asked)
        image = await pull(backend, TAG)

        assert (str(image.id), replay.asked[before:]) == (ID, [CREATE])
        await until(lambda: INSPECT_TAG in replay.asked[before:])
        await until(lambda: not backend._puller._looking)
        assert LIST not in replay.asked[before:]


async def test_what_goes_on_after_a_pull_ends_with_the_backend(tmp_path: Path) -> None:
    """Nobody waits for the look that comes after an unchanged pull, and it outlives nothing."""
    stream = b'{"status":"Digest: %s"}\r\n' % ID.encode() + UP_TO_DATE
    answers = engine_with(CONTAINERD, store="io.containerd.snapshotter.v1") | {CREATE: (200, stream)}
    async with replayed(tmp_path, answers):
        async with docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
            await following(backend)
            assert await status(backend, TAG)
            hangs = Stream()
            answers[INSPECT_TAG] = (200, hangs)
            await pull(backend, TAG)
            await until(lambda: hangs.begun)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("look at")]


@pytest.mark.parametrize(
    ("image", "store", "now", "lists"),
    [
        (GRAPH, "overlay2", GRAPH, 0),
        (GRAPH, "overlay2", GRAPH | {"RepoTags": [TAG, "reg.example/lib/busybox:2"]}, 0),
        (CONTAINERD, "io.containerd.snapshotter.v1", CONTAINERD, 0),
        (CONTAINERD, "io.containerd.snapshotter.v1", CONTAINERD | {"Config": {"User": "7"}}, 1),
    ],
    ids=["graph driver, unchanged", "graph driver, new name", "containerd, unchanged", "containerd, another platform"],
)
async def test_a_pull_costs_a_listing_only_where_an_inspect_does_not_tell(
    tmp_path: Path, image: dict[str, object], store: str, now: dict[str, object], lists: int
) -> None:
    """A6: what an inspect says of a pull of ours is taken over; only the containerd store's changes need a list."""
    stream = b'{"status":"Status: Downloaded newer image for x"}\r\n'
    answers = engine_with(image, store=store) | {CREATE: (200, stream)}
    async with replayed(tmp_path, answers) as replay, docker_backend(f"unix://{tmp_path}/docker.sock") as backend:
        await following(backend)
        assert await status(backend, TAG)
        before = replay.asked.count(LIST)
        answers |= {INSPECT_TAG: (200, now), f"GET /v1.51/images/{ID}/json": (200, now), LIST: (200, [now])}

        pulled = await pull(backend, TAG)
        (shown,) = await backend.images()
        assert replay.asked.count(LIST) == before + lists

    assert pulled == shown
    assert [str(tag) for tag in shown.tags] == now["RepoTags"]


async def test_the_engine_is_told_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 14 B: each request for a call or pull that is traced carries the trace, streams as well; others none."""
    span = create_autospec(tracing.Span, instance=True)
    span.headers.return_value = {"traceparent": "00-1-2-01"}
    monkeypatch.setattr(tracing, "_traces", create_autospec(tracing.Traces, instance=True))

    async def traced() -> None:
        tracing.enter(span)
        await pull(backend, TAG)

    stream = b'{"status":"Status: Downloaded newer image for x"}\r\n'
    answers = engine_with(GRAPH) | {CREATE: (200, stream)}
    async with (
        replayed(tmp_path, answers) as replay,
        docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as backend,
    ):
        await listed(backend)
        assert not _traced(replay)
        await asyncio.create_task(traced())

        assert {CREATE, INSPECT_TAG} <= _traced(replay)


def _traced(replay: Replay) -> set[str]:
    both = zip(replay.asked, replay.headers, strict=True)
    return {asked for asked, headers in both if headers.get("traceparent") == "00-1-2-01"}
