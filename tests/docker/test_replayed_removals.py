"""Removals that the engine refuses in the middle, which a test cannot make a real one do at the right moment (R3-R11).

The engine is replayed: its answers are made up, the HTTP is real.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from criimage.errors import CriimageError, ImageInUse, OperationFailed
from parts.docker_backend import docker_backend, remove
from parts.replayed_engine import Replay, Stream, replayed
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from criimage_docker.backend import DockerBackend

ID = "sha256:" + "ab" * 32
BUILT = "sha256:" + "ba" * 32
HERE = "reg.example/lib/busybox"
ELSEWHERE = "other.example/busybox"
DIGEST = "sha256:" + "cd" * 32
TAGS = [f"{HERE}:1", f"{HERE}:2", f"{ELSEWHERE}:3"]
IMAGE = {
    "Id": ID,
    "RepoTags": TAGS,
    "RepoDigests": [f"{HERE}@{DIGEST}"],
    "Size": 5,
}
INSPECT = f"GET /v1.51/images/{ID}/json"
DELETE = "DELETE /v1.51/images/"
NAMED_AGAIN = f"conflict: unable to delete {ID} (must be forced) - image is referenced in multiple repositories"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Replay]:
    """A graph driver's engine with one image, which it removes by any of its names."""
    answers: dict[str, tuple[int, object]] = {
        "GET /v1.51/info": (200, {"DriverStatus": []}),
        "GET /v1.51/images/json": (200, [IMAGE]),
        "GET /v1.51/containers/json": (200, []),
        INSPECT: (200, IMAGE),
        f"POST /v1.51/images/{ID}/tag": (201, b""),
    }
    for name in (*TAGS, *IMAGE["RepoDigests"], ID):  # type: ignore[misc]
        answers[DELETE + str(name)] = (200, [])
    answers |= {inspect_of(name): (200, IMAGE) for name in TAGS}
    async with replayed(tmp_path, answers) as replay:
        replay.ends = {DELETE + name: inspect_of(name) for name in TAGS}
        yield replay


@pytest.fixture
async def backend(engine: Replay, tmp_path: Path) -> AsyncIterator[DockerBackend]:
    async with docker_backend(f"unix://{tmp_path}/docker.sock", cache=False) as opened:
        yield opened


def inspect_of(name: str) -> str:
    return f"GET /v1.51/images/{name}/json"


def deleted(engine: Replay) -> list[str]:
    return [one.removeprefix(DELETE) for one in engine.asked if one.startswith(DELETE)]


def given_back(engine: Replay) -> int:
    return engine.asked.count(f"POST /v1.51/images/{ID}/tag")


@pytest.mark.parametrize(
    ("code", "words", "error", "told"),
    [
        (409, "conflict: image is being used by running container 1", ImageInUse, "used by running container 1"),
        (500, "unlinkat: device or resource busy", OperationFailed, "busy"),
        (500, "write /var/lib/x: no space left on device", OperationFailed, "space"),
    ],
)
async def test_an_image_that_stays_keeps_its_tags(
    engine: Replay, backend: DockerBackend, code: int, words: str, error: type[CriimageError], told: str
) -> None:
    """R9: the engine refuses the last step: each tag that was taken is given back before the caller learns why."""
    engine.answers = {**engine.answers, DELETE + ID: (code, {"message": words})}

    with pytest.raises(error, match=told):
        await remove(backend, ID)
    taken = [name for name in deleted(engine) if name != ID]
    assert len(taken) == given_back(engine) == 2


async def test_a_removal_that_is_stopped_gives_the_tags_back(engine: Replay, backend: DockerBackend) -> None:
    """Cancelled in the middle: the caller hears of it when the tags are there again."""
    hangs = Stream()
    engine.answers = {**engine.answers, DELETE + ID: (200, hangs)}
    removing = asyncio.create_task(remove(backend, ID))
    await until(lambda: hangs.begun)
    assert given_back(engine) == 0
    removing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await removing
    assert given_back(engine) == 2


async def test_a_tag_that_another_image_got_meanwhile_is_not_taken_back(engine: Replay, backend: DockerBackend) -> None:
    """A pull under a removed tag came before the removal failed: the tag stays with what was pulled."""
    hangs = Stream()
    engine.answers = {**engine.answers, DELETE + ID: (200, hangs)}
    removing = asyncio.create_task(remove(backend, ID))
    await until(lambda: hangs.begun)
    moved, *_ = deleted(engine)
    engine.answers = {**engine.answers, inspect_of(moved): (200, IMAGE | {"Id": BUILT})}
    removing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await removing
    assert given_back(engine) == 1


async def test_a_tag_whose_deletion_may_come_yet_is_given_back(engine: Replay, backend: DockerBackend) -> None:
    """An engine that hangs in the deletion of a tag still shows it: given again, it is there whatever comes first."""
    hangs = Stream()
    engine.answers = {**engine.answers, **{DELETE + name: (200, hangs) for name in TAGS}}
    engine.ends = {}
    removing = asyncio.create_task(remove(backend, ID))
    await until(lambda: hangs.begun)
    assert len(deleted(engine)) == 1
    removing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await removing
    assert given_back(engine) == 1


async def test_tags_of_one_repository_go_with_the_id(engine: Replay, backend: DockerBackend) -> None:
    """R3, R7: what a graph driver cannot give back, the digest of the last repository, is never taken by name."""
    engine.answers = {**engine.answers, INSPECT: (200, IMAGE | {"RepoTags": [f"{ELSEWHERE}:3", f"{HERE}:1"]})}
    removing = asyncio.create_task(remove(backend, ID))
    await until(lambda: ID in deleted(engine))
    engine.answers = {**engine.answers, INSPECT: (404, {"message": "No such image"})}
    await removing

    assert deleted(engine)[:2] == [f"{ELSEWHERE}:3", ID]
    assert given_back(engine) == 0


@pytest.mark.parametrize(
    ("names", "error", "told"),
    [
        (["<none>:<none>", "sha256:7"], None, ""),
        ([f"{HERE}:1", "NOT A NAME:2"], OperationFailed, "NOT A NAME:2"),
    ],
)
async def test_names_that_cannot_be_read(
    engine: Replay, backend: DockerBackend, names: list[str], error: type[CriimageError] | None, told: str
) -> None:
    """C5, R9: an image with a name that we could not give back is left alone; what stands for no name does no harm."""
    engine.answers = {**engine.answers, INSPECT: (200, IMAGE | {"RepoTags": names, "RepoDigests": []})}
    removing = asyncio.create_task(remove(backend, ID))
    if error is None:
        await until(lambda: ID in deleted(engine))
        engine.answers = {**engine.answers, INSPECT: (404, {"message": "No such image"})}
        await removing
    else:
        with pytest.raises(error, match=told):
            await removing
        assert deleted(engine) == []


async def test_an_image_that_others_were_built_on(engine: Replay, backend: DockerBackend) -> None:
    """R9: the graph driver would refuse at the end; nothing is removed, and the error says what is in the way."""
    engine.answers = {**engine.answers, "GET /v1.51/images/json": (200, [IMAGE, {"Id": BUILT, "ParentId": ID}])}

    with pytest.raises(ImageInUse, match=BUILT):
        await remove(backend, ID)
    assert deleted(engine) == []


async def test_an_image_that_others_name_again_and_again(engine: Replay, backend: DockerBackend) -> None:
    """R9: somebody tags it between our last look and the last step: begun again, three times, then said and undone."""
    engine.answers = {**engine.answers, DELETE + ID: (409, {"message": NAMED_AGAIN})}

    with pytest.raises(OperationFailed, match="given new names each time"):
        await remove(backend, ID)
    assert deleted(engine).count(ID) == 3
    assert given_back(engine) == 2


class UsedSoon(dict[str, tuple[int, object]]):
    """Answers of an engine in which the image is named and used by others when its ID is to be deleted."""

    def get(self, asked: str, default: Any = None) -> Any:  # noqa: ANN401 - as a dict's
        """As a dict's, and what comes with a deletion."""
        if asked == DELETE + ID:
            self["GET /v1.51/containers/json"] = (200, [{"Id": "c", "Names": ["/web"], "ImageID": ID}])
            return 409, {"message": NAMED_AGAIN}
        return super().get(asked, default)


async def test_a_container_that_comes_between_two_rounds(engine: Replay, backend: DockerBackend) -> None:
    """R9: the second look finds a user, and what the first round took is given back before the caller learns of it."""
    engine.answers = UsedSoon(engine.answers)
    engine.ends = {}

    with pytest.raises(ImageInUse, match="used by container web"):
        await remove(backend, ID)
    assert deleted(engine).count(ID) == 1
    assert given_back(engine) == 2
