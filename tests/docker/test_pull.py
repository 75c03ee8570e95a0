"""PullImage on real engines and a registry that does as it is told (docker P1-P19)."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

import pytest

from criimage.backend import Phase, PullProgress
from criimage.credentials import Credentials
from criimage.errors import (
    AccessDenied,
    ContentInvalid,
    PlatformMissing,
    PullError,
    RateLimited,
    RegistryUnavailable,
    RemoteImageMissing,
)
from criimage.reference import Reference
from criimage.testing.oci import Config, image, index, layer, noise_layer
from criimage.testing.scripted_registry import Answer, Auth, Change, Hang, Stage, Trickle, corrupted
from parts.child import free_port
from parts.docker_backend import docker_backend, pull, status
from parts.engine import Kind

if TYPE_CHECKING:
    from docker.conftest import Scripted
    from parts.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

HTML = b"<!DOCTYPE html><html><body><svg>" + b"x" * 2000 + b"</svg>502</body></html>"


async def test_by_tag(docker: Engine, scripted: Scripted) -> None:
    """P6, P8, C1: the image has its tag and the digest that the registry answered; nothing else is stored."""
    made = image(layer({"for": b"tag"}))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(made, "team/app", "1", "2", "3")
            pulled = await pull(backend, name)

        found = await status(backend, name)
        images = await backend.images()

    assert images == (pulled,)
    assert [str(tag) for tag in pulled.tags] == [name]
    assert [str(digest) for digest in pulled.digests] == [f"{name.removesuffix(':1')}@{made.digest}"]
    assert pulled.id.hex == (made.digest if docker.kind.containerd_store else made.id).removeprefix("sha256:")
    assert found is not None
    assert found.image == pulled


async def test_no_tag_means_latest_and_never_all(docker: Engine, scripted: Scripted) -> None:
    """P6, P7: without a tag `latest` is pulled; the engine is never asked for every tag."""
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            for tag in ("1", "2", "latest"):
                hub.put(image(layer({"for": tag.encode()})), "team/tags", tag)
            pulled = await pull(backend, f"{hub.address}/team/tags")
        images = await backend.images()

    assert [tag.tag for tag in pulled.tags] == ["latest"]
    assert len(images) == 1


@pytest.mark.parametrize("tag", ["", ":zzz"])
async def test_by_digest(docker: Engine, scripted: Scripted, tag: str) -> None:
    """P6, P9, C6: a digest makes no tag, not even one that stands beside it, and is found by itself."""
    made = image(layer({"for": b"digest"}))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(made, "team/digest", "1").removesuffix(":1")
            pulled = await pull(backend, f"{name}{tag}@{made.digest}")
        found = await status(backend, f"{name}@{made.digest}")
        by_tag = await status(backend, f"{name}:1")

    assert pulled.tags == ()
    assert [str(digest) for digest in pulled.digests] == [f"{name}@{made.digest}"]
    assert found is not None
    assert found.image == pulled
    assert by_tag is None


async def test_a_tag_that_moves(docker: Engine, scripted: Scripted) -> None:
    """The contract: the name leaves the image that had it before; the registry is asked each time."""
    old, new = image(layer({"for": b"old"})), image(layer({"for": b"new"}))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(old, "team/moves", "1")
            first = await pull(backend, name)
            hub.put(new, "team/moves", "1")
            second = await pull(backend, name)
        holders = [entry.id for entry in await backend.images() if Reference.parse(name) in entry.tags]

    assert first.id != second.id
    assert holders == [second.id]


async def test_from_an_index(docker: Engine, scripted: Scripted) -> None:
    """C1: of an index this machine's image is stored, and the digest is the index's, which the registry answered."""
    mine, other = (
        image(layer({"for": kind.encode()}), config=Config(architecture=kind)) for kind in ("amd64", "s390x")
    )
    both = index(mine, other)
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            pulled = await pull(backend, hub.put(both, "team/multi", "1"))
            fetched = {request.reference for request in hub.asked(Stage.CONFIG)}

    assert fetched == {mine.config.digest}
    assert [digest.digest for digest in pulled.digests] == [both.digest]


# -- credentials ------------------------------------------------------------------------------------------------------

ALICE = Credentials("alice", "p:ss wörd")


@pytest.mark.parametrize("auth", [Auth.BASIC, Auth.BEARER])
async def test_credentials_of_the_request(docker: Engine, scripted: Scripted, auth: Auth) -> None:
    """P1-P3: user name and password reach the registry, also where it wants a token; others are refused each time."""
    async with docker_backend(docker.host) as backend:
        with scripted(auth=auth, accounts={ALICE.username: ALICE.password}) as hub:
            name = hub.put(image(layer({"for": b"private"})), "team/private", "1")
            pulled = await pull(backend, name, ALICE)
            for wrong in (None, Credentials("alice", "wrong"), Credentials("mallory", "x")):
                with pytest.raises(AccessDenied) as refused:
                    await pull(backend, name, wrong)
                assert "wrong" not in refused.value.text
            again = await pull(backend, name, ALICE)

    assert again == pulled


async def test_credentials_meant_for_this_registry(docker: Engine, scripted: Scripted) -> None:
    """P4: the engine is told the registry's own name, however the client wrote the server address."""
    credentials = Credentials(ALICE.username, ALICE.password, server_address="https://127.0.0.1/v1/")
    async with docker_backend(docker.host) as backend:
        with scripted(auth=Auth.BASIC, accounts={ALICE.username: ALICE.password}) as hub:
            pulled = await pull(backend, hub.put(image(layer({"for": b"address"})), "team/address"), credentials)

    assert len(pulled.tags) == 1


# -- failures ---------------------------------------------------------------------------------------------------------


async def test_what_is_not_there(docker: Engine, scripted: Scripted) -> None:
    """P12: a tag, a digest and a repository that the registry does not have."""
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            hub.put(image(layer({"for": b"there"})), "team/there", "1")
            for missing in ("team/there:2", f"team/there@sha256:{'0' * 64}", "team/nothing:1"):
                with pytest.raises(RemoteImageMissing, match=missing.partition("@")[0]):
                    await pull(backend, f"{hub.address}/{missing}")
        assert await backend.images() == ()


async def test_no_variant_for_this_machine(docker: Engine, scripted: Scripted) -> None:
    """P12: an index without this platform."""
    other = image(layer({"for": b"s390x"}), config=Config(architecture="s390x"))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub, pytest.raises(PlatformMissing):
            await pull(backend, hub.put(index(other), "team/foreign", "1"))


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_a_registry_that_cannot_serve(docker: Engine, scripted: Scripted, code: int) -> None:
    """P13-P15: told by its words, since engines no longer send a code; short, one line, without the page of HTML."""
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(image(layer({"for": b"unavailable"})), "team/down", "1")
            hub.script(Stage.MANIFEST, Answer(code, HTML))
            with pytest.raises(RegistryUnavailable, match=str(code)) as failed:
                await pull(backend, name)

    assert len(failed.value.text) < 300
    assert "<" not in failed.value.text


async def test_nobody_listens(docker: Engine, scripted: Scripted) -> None:
    """P12, design section 4: a refused connection and an unknown host mean that the registry is unavailable."""
    async with docker_backend(docker.host) as backend:
        texts = []
        port = free_port()
        for _ in range(2):
            with pytest.raises(RegistryUnavailable, match="connection refused") as refused:
                await pull(backend, f"127.0.0.1:{port}/a/b:1")
            texts.append(refused.value.text)
        with pytest.raises(RegistryUnavailable) as unknown:
            await pull(backend, "registry.invalid/a/b:1")

    # Kubelet keeps a reason only while the texts are equal (cri-protocol 2.4).
    assert texts[0] == texts[1]
    assert "registry.invalid" in unknown.value.text


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (429, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}', RateLimited),
        (403, b'{"errors":[{"code":"DENIED","message":"not yours"}]}', AccessDenied),
        (403, HTML, AccessDenied),
        (404, HTML, RemoteImageMissing),
        (500, b'{"errors":[{"code":"UNKNOWN","message":"oops"}]}', PullError),
    ],
)
async def test_what_registries_answer(
    docker: Engine, scripted: Scripted, code: int, body: bytes, kind: type[PullError]
) -> None:
    """P12, P14: other answers, JSON or HTML, by situation and in short."""
    kind_of_content = "text/html" if body is HTML else "application/json"
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(image(layer({"for": b"answers"})), "team/answers", "1")
            hub.script(Stage.MANIFEST, Answer(code, body, {"Content-Type": kind_of_content}))
            with pytest.raises(PullError) as failed:
                await pull(backend, name)

    if docker.kind in {Kind.DEBIAN13, Kind.UNSTABLE} and code == 404:
        # All that these say is "unknown".
        kind = PullError
    assert type(failed.value) is kind, failed.value.text
    assert "<" not in failed.value.text
    assert len(failed.value.text) < 300


async def test_a_layer_that_lies(docker: Engine, scripted: Scripted) -> None:
    """P12: content that does not match its digest, and nothing is stored."""
    made = image(noise_layer(100_000))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(made, "team/lies", "1")
            hub.script(Stage.LAYER, Change(corrupted))
            with pytest.raises(ContentInvalid):
                await pull(backend, name)
        assert await backend.images() == ()


async def test_a_name_that_spells_an_error(docker: Engine, scripted: Scripted) -> None:
    """P12: names are no part of what decides about the kind."""
    async with docker_backend(docker.host) as backend:
        with scripted() as hub, pytest.raises(RemoteImageMissing):
            await pull(backend, f"{hub.address}/denied/toomanyrequests:unauthorized")


# -- progress ---------------------------------------------------------------------------------------------------------


async def test_progress(docker: Engine, scripted: Scripted) -> None:
    """P17-P19: bytes and layers grow, never shrink, and end at what there was; each report tells something new."""
    made = image(layer({"for": b"progress"}), noise_layer(3_000_000, seed=1), noise_layer(2_000_000, seed=2))
    seen: list[PullProgress] = []
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            hub.script(Stage.LAYER, Trickle(200_000, 0.05))
            await pull(backend, hub.put(made, "team/progress", "1"), report=seen.append)

    sizes = [len(one.data) for one in made.layers]
    assert seen[0] == PullProgress(Phase.RESOLVING)
    assert seen[-1].phase is Phase.DONE
    assert seen[-1].layers_done == seen[-1].layers_total == 3
    assert seen[-1].unchanged is False
    assert [one.bytes_done for one in seen] == sorted(one.bytes_done for one in seen)
    assert sum(sizes[1:]) <= seen[-1].bytes_done <= sum(sizes)
    assert {one.bytes_total for one in seen[:-1]} <= {None, sum(sizes)}
    assert Phase.DOWNLOADING in {one.phase for one in seen}
    assert all(one != two for one, two in itertools.pairwise(seen))
    # Somebody who watches sees more than the beginning and the end.
    assert len({one.bytes_done for one in seen}) > 5


async def test_nothing_to_fetch(docker: Engine, scripted: Scripted) -> None:
    """P17: a second pull reports that nothing was fetched."""
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(image(layer({"for": b"again"})), "team/again", "1")
            await pull(backend, name)
            before = len(hub.asked(Stage.LAYER))
            seen: list[PullProgress] = []
            await pull(backend, name, report=seen.append)
            fetched = len(hub.asked(Stage.LAYER)) - before

    assert fetched == 0
    assert seen[-1].unchanged
    assert (seen[-1].bytes_done, seen[-1].layers_total) == (0, 0)


async def test_layers_that_are_here(docker: Engine, scripted: Scripted) -> None:
    """P10: a layer of another image is not fetched again, and counts as reused."""
    shared = noise_layer(50_000, seed=9)
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            await pull(backend, hub.put(image(shared, layer({"one": b"1"})), "team/one", "1"))
            seen: list[PullProgress] = []
            await pull(backend, hub.put(image(shared, layer({"two": b"2"})), "team/two", "1"), report=seen.append)
            fetched = [request.reference for request in hub.asked(Stage.LAYER)]

    assert fetched.count(shared.digest) == 1
    assert seen[-1].layers_total == 1
    # The containerd store does not mention what it has; the image's number of layers tells in the end.
    assert seen[-1].layers_reused == 1


async def test_a_standstill_is_silent(docker: Engine, scripted: Scripted) -> None:
    """P19: while a registry hangs nothing is reported as work, however often the engine repeats itself."""
    seen: list[PullProgress] = []
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            hang = hub.script(Stage.LAYER, Hang(after=300_000))
            name = hub.put(image(noise_layer(1_000_000, seed=3)), "team/still", "1")
            pulling = asyncio.create_task(pull(backend, name, report=seen.append))
            await hub.until(lambda: hang.reached)
            await settled(seen)
            during = 1
            for _ in range(5):
                if during:  # what came last may only have been late
                    before = len(seen)
                    await asyncio.sleep(2)
                    during = len(seen) - before
            hang.release()
            await pulling

    assert during == 0


async def settled(seen: list[PullProgress]) -> None:
    """Waits until nothing has been reported for a while."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 1:
        if len(seen) != last:
            last, since = len(seen), time.monotonic()
        await asyncio.sleep(0.05)
