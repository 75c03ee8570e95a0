"""What the engine's events do to the listing, one event at a time (A6, A8).

The engine is replayed: its answers are made up, the HTTP is real.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from criimage.backend import Image
from criimage.errors import CriimageError, InvalidRequest, OperationFailed
from criimage.reference import ImageID, Pattern, Reference
from parts.docker_backend import docker_backend, following, listed, mended, status
from parts.replayed_engine import Replay, Stream, replayed
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from criimage_docker.backend import DockerBackend

ID = "sha256:" + "ab" * 32
OTHER = "sha256:" + "12" * 32
TAG = "reg.example/lib/busybox:1"
IMAGE = {"Id": ID, "RepoTags": [TAG], "RepoDigests": [], "Size": 5, "Created": 1}
INSPECT = f"GET /v1.51/images/{TAG}/json"
LIST = "GET /v1.51/images/json"


@asynccontextmanager
async def followed(folder: Path) -> AsyncIterator[tuple[Replay, Stream, DockerBackend]]:
    """A graph driver's engine whose events are ours to send, and the backend that follows them."""
    events = Stream()
    answers = {
        "GET /v1.51/info": (200, {"DriverStatus": []}),
        "GET /v1.51/events": (200, events),
        LIST: (200, [IMAGE]),
        INSPECT: (200, IMAGE),
        f"GET /v1.51/images/{ID}/json": (200, IMAGE),
    }
    async with replayed(folder, answers) as engine, docker_backend(f"unix://{folder}/docker.sock") as backend:
        await following(backend)
        yield engine, events, backend


async def shown(backend: DockerBackend, wanted: set[str]) -> None:
    """Wait until a list shows these."""
    while await listed(backend) != wanted:  # noqa: ASYNC110 - no event tells what a list would show
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("event", "listings"),
    [
        ({"Action": "save"}, 0),
        ({"Action": "tag", "Actor": {"ID": ID}}, 1),
        ({"Action": "push", "Actor": {"ID": TAG}}, 1),
        ({"Action": "pull", "Actor": {"ID": "reg.example/lib/busybox"}}, 1),
        ({"Action": "pull"}, 1),
        ({"Action": "a new one"}, 1),
    ],
    ids=str,
)
async def test_an_event_ends_the_listing(tmp_path: Path, event: dict[str, object], listings: int) -> None:
    """A6: all but `save` do, those that nobody knows included; until one comes the engine is asked for nothing."""
    async with followed(tmp_path) as (engine, events, backend):
        before = engine.asked.count(LIST)
        assert await listed(backend) == {ID}
        assert engine.asked.count(LIST) == before
        events.say(event)
        # Events come in order: after this one the one before has had its effect.
        asked = engine.asked.count(INSPECT)
        events.say({"Action": "pull", "Actor": {"ID": TAG}})
        await until(lambda: engine.asked.count(INSPECT) > asked)
        await mended(backend)
        assert await listed(backend) == {ID}

        assert engine.asked.count(LIST) == before + listings
        assert engine.asked.count(INSPECT) == asked + 1
        assert [one for one in engine.asked if "/reg.example/" in one and one != INSPECT] == []


async def test_somebody_elses_pull_costs_one_inspect(tmp_path: Path) -> None:
    """A6: the event names what was pulled; what became of it is inspected and shown, without a listing."""
    async with followed(tmp_path) as (engine, events, backend):
        before = engine.asked.count(LIST)
        newer = IMAGE | {"Id": OTHER, "RepoTags": ["reg.example/new:1"]}
        engine.answers = {**engine.answers, "GET /v1.51/images/reg.example/new:1/json": (200, newer)}
        events.say({"Action": "pull", "Actor": {"ID": "reg.example/new:1"}})
        await until(lambda: "GET /v1.51/images/reg.example/new:1/json" in engine.asked)
        await mended(backend)
        assert await listed(backend) == {ID, OTHER}

        assert engine.asked.count(LIST) == before


async def test_events_are_followed_again_after_their_end(tmp_path: Path) -> None:
    """A6: an engine that restarts ends the stream; what was listed counts no more, and a new stream is begun."""
    async with followed(tmp_path) as (engine, events, backend):
        again = Stream()
        engine.answers = {**engine.answers, "GET /v1.51/events": (200, again), LIST: (200, [])}
        events.end()
        await until(lambda: again.begun)

        assert await listed(backend) == set()
        await following(backend)
        before = len(engine.asked)
        assert await listed(backend) == set()
        assert len(engine.asked) == before


async def test_an_engine_that_stays_away_is_asked_less_and_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A6: a pause before each new stream, twice as long each time up to two seconds, and short again after a stream."""
    pauses: list[float] = []
    seven, goes_on = asyncio.Event(), asyncio.Event()
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            seven.set()
            await goes_on.wait()
        await sleep(0)

    async with followed(tmp_path) as (engine, events, backend):
        answers = engine.answers
        engine.answers = {key: answer for key, answer in answers.items() if not key.endswith("/events")}
        monkeypatch.setattr("criimage_docker.view.following.asyncio", SimpleNamespace(sleep=noted))
        events.end()
        await seven.wait()
        assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
        again = Stream()
        engine.answers = {**answers, "GET /v1.51/events": (200, again)}
        goes_on.set()
        await until(lambda: again.begun)
        await following(backend)
        pauses.clear()
        again.end()
        await until(lambda: pauses)
        assert pauses[0] == 0.05


async def test_a_pattern_that_the_engine_cannot_read_is_the_callers_fault(tmp_path: Path) -> None:
    """INVALID_ARGUMENT with the pattern for its syntax; whatever else the engine refuses is a failure of its own."""
    async with followed(tmp_path) as (engine, _, backend):
        await listed(backend)
        for message, error, told in (
            ("syntax error in pattern", InvalidRequest, r"no valid pattern: a\["),
            ("disk on fire", OperationFailed, "cannot list its images: disk on fire"),
        ):
            engine.answers = {**engine.answers, LIST: (500, {"message": message})}
            with pytest.raises(error, match=told):
                await listed(backend, "a[")


async def test_a_pattern_is_asked_for_once_until_something_changes(tmp_path: Path) -> None:
    """L2: what matched is kept with the list that it was taken from, and no longer."""
    async with followed(tmp_path) as (engine, events, backend):
        before = await backend.images()
        assert await listed(backend, "*/lib/*") == {ID}
        asked = len(engine.asked)
        assert await listed(backend, "*/lib/*") == {ID}
        assert len(engine.asked) == asked
        newer = IMAGE | {"Id": OTHER, "RepoTags": ["reg.example/lib/new:1"]}
        engine.answers = {**engine.answers, LIST: (200, [IMAGE, newer])}
        events.say({"Action": "tag"})
        await shown(backend, {ID, OTHER})
        assert await listed(backend, "*/lib/*") == {ID, OTHER}
        assert await backend.images() is not before


async def test_an_image_that_went_away_meanwhile_is_looked_for_again(tmp_path: Path) -> None:
    """S5: only "no such image" is that, and its name may be another image's by now; anything else is a failure."""
    async with followed(tmp_path) as (engine, _, backend):
        await listed(backend)
        by_id = f"GET /v1.51/images/{ID}/json"
        known = engine.answers
        engine.answers = {**known, by_id: (500, {"message": "disk on fire"})}
        with pytest.raises(OperationFailed, match="disk on fire"):
            await status(backend, TAG)
        engine.answers = {**known, by_id: (404, {"message": "gone"}), INSPECT: (200, IMAGE | {"Id": OTHER})}
        found = await status(backend, TAG)
        assert found is not None
        assert str(found.image.id) == OTHER


async def listed_anew(engine: Replay, events: Stream, backend: DockerBackend) -> set[str]:
    """What a list shows after an event that ends the one before."""
    before = engine.asked.count(LIST)
    events.say({"Action": "tag"})
    while True:
        found = await listed(backend)
        if engine.asked.count(LIST) > before:
            return found
        await asyncio.sleep(0.005)


async def test_an_image_that_the_engines_list_leaves_out_is_asked_for_by_itself(tmp_path: Path) -> None:
    """It stays in ours as long as the engine knows it with a name; listed again, or gone, it is asked for no more."""
    by_id = f"GET /v1.51/images/{OTHER}/json"
    left_out = IMAGE | {"Id": OTHER, "RepoTags": ["reg.example/lost:1"]}
    image = Image(ImageID.parse(OTHER), (Reference.parse("reg.example/lost:1"),))
    async with followed(tmp_path) as (engine, events, backend):
        await listed(backend)
        for listing, inspected, wanted, asks in (
            ([IMAGE], (200, left_out), {ID, OTHER}, 1),
            ([], (200, left_out), {OTHER}, 1),
            ([], (404, {"message": "gone"}), set(), 1),
            ([IMAGE], (200, left_out), {ID}, 0),
        ):
            if asks:
                backend._view.unlisted(left_out, image)
            asked = engine.asked.count(by_id)
            engine.answers = {**engine.answers, LIST: (200, listing), by_id: inspected}
            assert await listed_anew(engine, events, backend) == wanted
            assert engine.asked.count(by_id) == asked + asks
        backend._view.unlisted(left_out, image)
        engine.answers = {**engine.answers, LIST: (200, [IMAGE, left_out])}
        asked = engine.asked.count(by_id)
        for _ in range(2):
            assert await listed_anew(engine, events, backend) == {ID, OTHER}
        assert engine.asked.count(by_id) == asked


async def test_a_status_is_asked_for_once(tmp_path: Path) -> None:
    """S5: the user of a graph driver's image cannot change: the second status asks the engine nothing."""
    async with followed(tmp_path) as (engine, _, backend):
        first = await status(backend, TAG)
        before = len(engine.asked)

        assert await status(backend, TAG) == first
        assert len(engine.asked) == before
        assert first is not None


async def test_a_pattern_matches_no_image_without_a_name(tmp_path: Path) -> None:
    """L8: the containerd store lets `*` match what has no name; a list by pattern leaves that out, and nothing else."""
    async with followed(tmp_path) as (engine, events, backend):
        nameless = IMAGE | {"Id": OTHER, "RepoTags": []}
        engine.answers = {**engine.answers, LIST: (200, [IMAGE, nameless])}
        events.say({"Action": "commit"})
        await shown(backend, {ID, OTHER})

        assert await listed(backend, "*") == {ID}


@pytest.mark.parametrize(("digits", "asks"), [("aba", False), ("abab", True), ("ababab", True)])
async def test_few_digits_are_looked_up_in_the_list(tmp_path: Path, digits: str, asks: bool) -> None:
    """Fewer than four are too few for the containerd store: what they begin is known from the list of all (S6)."""
    by_digits = f"GET /v1.45/images/{digits}/json"
    answers = {
        "GET /v1.45/info": (200, {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}),
        "GET /v1.45/events": (200, Stream()),
        "GET /v1.45/images/json": (200, [IMAGE]),
        by_digits: (200, IMAGE),
        f"GET /v1.45/images/{ID}/json": (200, IMAGE),
    }
    async with (
        replayed(tmp_path, answers, "1.45") as engine,
        docker_backend(f"unix://{tmp_path}/docker.sock") as backend,
    ):
        await following(backend)
        found = await status(backend, digits)

    assert found is not None
    assert str(found.image.id) == ID
    assert (by_digits in engine.asked) is asks


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        ("invalid reference format: must be lowercase", InvalidRequest, "cannot read the name: invalid reference"),
        ("input/output error", OperationFailed, "cannot inspect the image: input/output error"),
    ],
)
async def test_an_engine_that_does_not_tell_is_not_taken_for_absence(
    tmp_path: Path, words: str, error: type[CriimageError], told: str
) -> None:
    """S6: only its own "no such image" is that; whatever else it says is passed on with what it was asked."""
    async with followed(tmp_path) as (engine, _, backend):
        engine.answers = {**engine.answers, "GET /v1.51/images/REG/new:1/json": (500, {"message": words})}

        with pytest.raises(error, match=told):
            await status(backend, "REG/new:1")


PAGE = "proxy: basic Zm9vOnMzY3JldHBhc3M= \x1b[31m<html><body>" + "x" * 100_000
CALLS: dict[str, Callable[[DockerBackend], Awaitable[Any]]] = {
    "GET /v1.51/images/REG/new:1/json": lambda backend: status(backend, "REG/new:1"),
    "GET /v1.51/images/json": lambda backend: backend.images(Pattern.parse("REG/*")),
    "GET /v1.51/system/df": lambda backend: backend.usage(),
    "GET /v1.51/info": lambda backend: backend.usage(),
    "GET /_ping": lambda backend: backend.check(),
}


@pytest.mark.parametrize("asked", CALLS)
async def test_what_an_engine_refuses_with_is_fit_to_be_shown(tmp_path: Path, asked: str) -> None:
    """P14: whatever it was asked, a page, a secret or a sign that moves the terminal reaches no client and no log."""
    async with followed(tmp_path) as (engine, _, backend):
        info = (200, {"DriverStatus": [], "DockerRootDir": "/"})
        engine.answers = {**engine.answers, "GET /v1.51/info": info, asked: (500, {"message": PAGE})}
        try:
            (problem,) = await CALLS[asked](backend)
            text = problem.text
        except CriimageError as error:
            text = error.text

    assert "proxy" in text
    assert len(text) < 600
    assert text.isprintable()
    assert "Zm9v" not in text
    assert "<" not in text
