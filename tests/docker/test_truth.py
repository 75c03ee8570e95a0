"""What the engine does not tell is asked: changes without an event, and images that no list shows (issue 10.2)."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from criimage.backend import User
from criimage.errors import ImageInUse
from criimage.testing.oci import Config, image, index, layer
from parts.docker_backend import docker_backend, following, listed, pull, remove, status
from parts.serving import until

if TYPE_CHECKING:
    from criimage.testing.oci import Image
    from criimage_docker.backend import DockerBackend
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.newest, pytest.mark.timeout(600)]


async def shows_in_time(backend: DockerBackend, wanted: set[str]) -> None:
    """Waits until exactly these IDs are listed; a listing without the TTL's help, so that the lag alone can do it."""
    async with asyncio.timeout(30):
        while await listed(backend) != wanted:  # noqa: ASYNC110 - it is the asking that is tested
            await asyncio.sleep(0.1)


def identity(docker: Engine, made: Image) -> str:
    """The digits of the ID that an image has in an engine."""
    return (made.digest if docker.kind.containerd_store else made.id).removeprefix("sha256:")


async def test_a_prune_is_seen_at_once(docker: Engine, hub: Registry) -> None:
    """26.1's containerd store tells nobody of a prune: a status, and with it a kubelet, knows at once all the same."""
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        name = hub.push(image(layer({"for": b"pruned"})), "truth/pruned", "1")
        held = await pull(backend, name)
        await following(backend)
        await status(backend, name)
        await asyncio.to_thread(docker.prune)
        if backend._view.tells_removals:
            # The event is on its way.
            await until(lambda: backend._view.known(held.id) is None)
        for text in (name, str(held.id), held.id.hex[:12], str(held.digests[0])):
            assert await status(backend, text) is None, text
        await shows_in_time(backend, set())


async def test_images_without_a_name(docker: Engine, hub: Registry) -> None:
    """A commit and a build that give no name have no event before 28; by ID they are there at once, in lists soon."""
    name = hub.push(image(layer({"for": b"nameless"})), "truth/nameless", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        base = await pull(backend, name)
        await following(backend)
        docker.hold(name, "source")
        committed = await asyncio.to_thread(docker.commit, "source")
        found = await status(backend, committed)
        assert found is not None
        assert str(found.image.id) == committed
        built = await asyncio.to_thread(docker.build, name, "a=1")
        for text in (built, built.removeprefix("sha256:")[:12]):
            found = await status(backend, text)
            assert found is not None
            assert str(found.image.id) == built
        await shows_in_time(backend, {str(base.id), committed, built})


async def test_a_list_shows_what_had_no_event(docker: Engine, hub: Registry) -> None:
    """The same for a list alone, which nobody's status has woken up."""
    name = hub.push(image(layer({"for": b"silent"})), "truth/silent", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        base = await pull(backend, name)
        await following(backend)
        docker.hold(name, "source")
        committed = await asyncio.to_thread(docker.commit, "source")
        await shows_in_time(backend, {str(base.id), committed})


async def test_parents_that_no_list_shows(docker: Engine, hub: Registry) -> None:
    """A build's nameless parents are in no list; status finds them, and a removal removes or refuses, never neither."""
    name = hub.push(image(layer({"for": b"parents"})), "truth/parents", "1")
    async with docker_backend(docker.host) as backend:
        base = await pull(backend, name)
        await following(backend)
        child = await asyncio.to_thread(docker.build, name, "a=1", "b=2", name="child:1")
        every = docker.ask("GET", "/images/json", {"all": "1"}).json()
        (parent,) = [one["Id"] for one in every if one["Id"] not in {str(base.id), child}]
        found = await status(backend, parent)
        assert found is not None
        assert str(found.image.id) == parent
        asked = backend._view.listings
        for _ in range(5):
            assert await status(backend, parent) is not None
        # Known to be in no list: not asked for again and again.
        assert backend._view.listings == asked
        for text in (parent, name):
            try:
                await remove(backend, text)
            except ImageInUse:
                assert docker.inspect(text) is not None
            else:
                assert docker.inspect(text) is None
        if not docker.kind.containerd_store:
            # Both are still there, and nothing of them is lost.
            left = docker.inspect(name)
            assert left is not None
            assert left["RepoDigests"] == [str(digest) for digest in base.digests]
        await remove(backend, child)
        assert docker.inspect(child) is None


async def test_an_image_whose_layer_the_engine_has_lost(docker: Engine, hub: Registry) -> None:
    """26.1 lists no image without all its blobs, although it makes containers of it: it is here, and can be removed."""
    if not docker.kind.containerd_store:
        return
    made = image(layer({"for": b"lost"}))
    name = hub.push(made, "truth/lost", "1")
    async with docker_backend(docker.host) as backend:
        held = await pull(backend, name)
        await following(backend)
        await asyncio.to_thread(docker.lose, made.layers[0].digest)
        docker.hold(name, "of-it")
        docker.ask("DELETE", "/containers/of-it", {"force": "1"})
        for _ in range(2):
            for text in (name, str(held.id), held.id.hex[:12], str(held.digests[0])):
                found = await status(backend, text)
                assert found is not None, text
                assert found.image.tags == held.tags
            assert await listed(backend) == {str(held.id)}
            backend._view.changed()
        assert (await pull(backend, name)).id == held.id
        await remove(backend, name)
        assert docker.inspect(str(held.id)) is None
        assert await status(backend, str(held.id)) is None
        assert await listed(backend) == set()


async def test_a_push_gives_a_digest(docker: Engine, hub: Registry) -> None:
    """A push adds a digest on the graph drivers; it is known when the event has come."""
    name = hub.push(image(layer({"for": b"push"})), "truth/pushed-from", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        held = await pull(backend, name)
        docker.tag(name, f"{hub.address}/truth/pushed-to", "1")
        await following(backend)
        await asyncio.to_thread(docker.push, f"{hub.address}/truth/pushed-to", "1")
        inspected = docker.inspect(str(held.id))
        assert inspected is not None
        wanted = sorted(inspected["RepoDigests"])
        async with asyncio.timeout(30):
            while True:
                found = await status(backend, name)
                if found is not None and [str(one) for one in found.image.digests] == wanted:
                    break
                await asyncio.sleep(0.01)
        for digest in wanted:
            by_digest = await status(backend, digest)
            assert by_digest is not None
            assert by_digest.image.id == held.id


async def test_another_platform_of_one_index(docker: Engine, hub: Registry) -> None:
    """Issue 10.3: in the containerd store user and size of one ID change when another platform comes."""
    theirs = image(layer({"for": b"s390x" * 1000}), config=Config(architecture="s390x", user="7"))
    mine = image(layer({"for": b"amd64"}), config=Config(user="1000"))
    name = hub.push(index(mine, theirs), "truth/platforms", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        query = {"fromImage": name.removesuffix(":1"), "tag": "1", "platform": "linux/s390x"}
        await asyncio.to_thread(docker.ask, "POST", "/images/create", query)
        await following(backend)
        first = await status(backend, name)
        assert first is not None
        assert first.user == User(uid=7)
        pulled = await pull(backend, name)
        second = await status(backend, name)
        async with docker_backend(docker.host, cache=False) as other:
            fresh = await status(other, name)
            assert await backend.images() == await other.images()

    assert second is not None
    assert second == fresh
    assert second.user == User(uid=1000)
    assert second.image == pulled
    if docker.kind.containerd_store:
        assert first.image.id == second.image.id


async def test_the_order_in_which_a_text_is_read(docker: Engine, hub: Registry) -> None:
    """Issue 10.4: full ID, name, prefix: `4817` is `4817:latest` where there is one, and no other image is removed."""
    async with docker_backend(docker.host) as backend:
        many = (image(layer({"number": str(number).encode()})) for number in itertools.count())
        made = next(one for one in many if identity(docker, one)[:4].isdigit())
        numbered = await pull(backend, hub.push(made, "truth/numbered", "1"))
        text = numbered.id.hex[:4]
        before = await status(backend, text)
        other = await pull(backend, hub.push(image(layer({"for": b"named by digits"})), "truth/digits", "1"))
        await following(backend)
        docker.tag(str(other.tags[0]), text, "latest")
        # At once: the event of the tag may not have come.
        after = await status(backend, text)
        await remove(backend, text)
        left = await backend.images()
        await remove(backend, text)

    assert before is not None
    assert before.image.id == numbered.id
    assert after is not None
    assert after.image.id == other.id
    assert [one.id for one in left] == [numbered.id]
    assert docker.images() == []


async def test_what_is_absent_is_asked_for(docker: Engine, hub: Registry) -> None:
    """Issue 10.2: before "absent" the engine is asked, whatever the form; a view that has gone deaf does not matter."""
    made = image(layer({"for": b"deaf"}))
    name = hub.push(made, "truth/deaf", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await following(backend)
        backend._view.pull_event = lambda event: False  # type: ignore[method-assign]
        docker.pull(name.removesuffix(":1"), "1")
        digits = identity(docker, made)
        for text in (name, f"{name.removesuffix(':1')}@{made.digest}", f"sha256:{digits}", digits[:12], digits):
            backend._view._kept = None
            found = await status(backend, text)
            assert found is not None, text
        await remove(backend, digits[:12])

    assert docker.images() == []
