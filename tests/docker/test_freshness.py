"""The cached view: right whoever changes the engine, and cheap while nobody does (docker A6, A8)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from criimage.errors import RemoteImageMissing
from criimage.testing.oci import Config, image, index, layer
from criimage_docker.engine.api import Engine as Client
from parts.docker_backend import counted, docker_backend, following, listed, pull, remove, status
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from criimage.testing.oci import Image, Index
    from criimage_docker.backend import DockerBackend
    from docker.conftest import Scripted
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


async def becomes(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Asks until the answer is the wanted one; others change the engine, so their events are on the way."""
    async with asyncio.timeout(30):
        while await ask() != wanted:  # noqa: ASYNC110 - it is the asking that is tested
            await asyncio.sleep(0.002)


async def shows(backend: DockerBackend, *tags: str) -> None:
    """Waits until exactly these tags are listed."""

    async def names() -> list[str]:
        return sorted(str(tag) for entry in await backend.images() for tag in entry.tags)

    await becomes(names, sorted(tags))


async def test_what_others_do_is_seen(docker: Engine, hub: Registry) -> None:
    """A8: pull, tag, untag and delete by another client each end the listing, without the TTL's help."""
    name = hub.push(image(layer({"for": b"others"})), "fresh/others", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await following(backend)
        await shows(backend)
        docker.pull(name.removesuffix(":1"), "1")
        await shows(backend, name)
        docker.tag(name, "local", "a")
        await shows(backend, name, "docker.io/library/local:a")
        docker.delete("local:a")
        await shows(backend, name)
        docker.delete(name)
        await shows(backend)


async def test_an_import_is_seen(docker: Engine) -> None:
    """A8: an image made by another client, without a name even."""
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await following(backend)
        made = docker.import_untagged("imported")
        await until_listed(backend, {made})


async def until_listed(backend: DockerBackend, wanted: set[str]) -> None:
    """Waits until exactly these IDs are listed."""
    await becomes(lambda: listed(backend), wanted)


async def test_a_stolen_tag(docker: Engine, hub: Registry) -> None:
    """A8: the image that loses a tag has no event of its own; it is seen all the same."""
    one = hub.push(image(layer({"for": b"one"})), "fresh/stolen-one", "1")
    two = hub.push(image(layer({"for": b"two"})), "fresh/stolen-two", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        first, second = await pull(backend, one), await pull(backend, two)
        await following(backend)
        docker.tag(one, "stolen", "now")
        await shows(backend, one, two, "docker.io/library/stolen:now")
        docker.tag(two, "stolen", "now")

        async def holder() -> str:
            found = await status(backend, "stolen:now")
            return "" if found is None else str(found.image.id)

        await becomes(holder, str(second.id))

    assert first.id != second.id


async def test_own_writes_are_seen_at_once(docker: Engine, hub: Registry) -> None:
    """A8: the engine's event may come after its reply; what this service did is seen by the very next call."""
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await following(backend)
        for number in range(30):
            name = hub.push(image(layer({"number": str(number).encode()})), "fresh/own", str(number))
            pulled = await pull(backend, name)
            assert pulled in await backend.images()
            await remove(backend, name)
            assert await backend.images() == ()


@pytest.mark.usefixtures("unhurried")
async def test_nothing_changes_nothing_is_asked(docker: Engine, hub: Registry) -> None:
    """Freshness: a thousand lists and statuses cost no listing at all."""
    async with docker_backend(docker.host) as backend:
        name = hub.push(image(layer({"for": b"unchanged"})), "fresh/unchanged", "1")
        await pull(backend, name)
        await following(backend)

        async def count() -> tuple[int, int]:
            before = backend._view.listings
            lists = [await backend.images() for _ in range(1000)]
            for _ in range(1000):
                await status(backend, name)
            return backend._view.listings - before, len({id(one) for one in lists})

        assert await counted(backend, count, lambda found: found == (0, 1)) == (0, 1)


@pytest.mark.usefixtures("unhurried")
async def test_saving_an_image_changes_nothing(docker: Engine, hub: Registry) -> None:
    """A8: of all image events only those that change nothing are passed over."""
    name = hub.push(image(layer({"for": b"saved"})), "fresh/saved", "1")
    async with docker_backend(docker.host) as backend:
        pulled = await pull(backend, name)

        async def count() -> int:
            before = backend._view.listings
            assert docker.ask("GET", f"/images/{pulled.id}/get").status == 200
            await asyncio.sleep(0.3)
            await backend.images()
            return backend._view.listings - before

        assert await counted(backend, count, lambda found: found == 0) == 0


async def test_the_net_below(docker: Engine, hub: Registry) -> None:
    """A8: were events lost without a trace, the TTL would end the listing."""
    name = hub.push(image(layer({"for": b"net"})), "fresh/net", "1")
    async with docker_backend(docker.host, cache_ttl="200ms") as backend:
        await until(lambda: backend._view.trusted)
        # A view that nobody tells anything any more.
        backend._view.changed = lambda: None  # type: ignore[method-assign]
        docker.pull(name.removesuffix(":1"), "1")
        await shows(backend, name)


async def test_switched_off(docker: Engine, hub: Registry) -> None:
    """The setting `cache`: every answer asks the engine, and no events are followed."""
    name = hub.push(image(layer({"for": b"off"})), "fresh/off", "1")
    async with docker_backend(docker.host, cache=False) as backend:
        for _ in range(3):
            docker.pull(name.removesuffix(":1"), "1")
            assert len(await backend.images()) == 1
            docker.delete(name)
            assert await backend.images() == ()
        assert backend._view.listings == 6
        assert not backend._view.trusted


async def test_without_events_the_engine_is_asked(
    docker: Engine, hub: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freshness: where events cannot be had, every answer asks the engine and is right."""

    async def deaf(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("criimage_docker.backend.follow", deaf)
    name = hub.push(image(layer({"for": b"deaf"})), "fresh/deaf", "1")
    async with docker_backend(docker.host) as backend:
        assert await backend.images() == ()
        docker.pull(name.removesuffix(":1"), "1")
        assert len(await backend.images()) == 1


async def test_many_callers_share_the_questions(docker: Engine) -> None:
    """Freshness: a hundred callers at once cost two listings at most, cache or none."""
    async with docker_backend(docker.host, cache=False) as backend:
        before = backend._view.listings
        await asyncio.gather(*(backend.images() for _ in range(100)))

    assert backend._view.listings - before <= 2


async def test_a_cancelled_caller_disturbs_nobody(docker: Engine) -> None:
    """The contract: of callers that share a listing one may leave."""
    async with docker_backend(docker.host, cache=False) as backend:
        with docker.frozen():
            callers = [asyncio.create_task(backend.images()) for _ in range(3)]
            await until(lambda: backend._view.listings)
            callers[0].cancel()
            await asyncio.wait({callers[0]})
        assert await asyncio.gather(*callers[1:]) == [(), ()]


async def test_a_storm_of_changes(docker: Engine, hub: Registry) -> None:
    """A8: hundreds of changes by others while lists go on; the end is seen as it is."""
    name = hub.push(image(layer({"for": b"storm"})), "fresh/storm", "1")
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await pull(backend, name)
        await following(backend)

        def storm() -> None:
            for number in range(200):
                docker.tag(name, "storm", str(number))
            for number in range(150):
                docker.delete(f"storm:{number}")

        blowing = asyncio.create_task(asyncio.to_thread(storm))
        while not blowing.done():
            await backend.images()
            await asyncio.sleep(0)
        await shows(backend, name, *(f"docker.io/library/storm:{number}" for number in range(150, 200)))


@pytest.mark.usefixtures("unhurried")
async def test_own_pulls_cost_no_listing(docker: Engine, hub: Registry) -> None:
    """Freshness: what a pull of ours did is known from one inspect, moved tags included; it is what a list tells."""
    made = [image(layer({"number": str(number).encode()})) for number in range(6)]
    multi = index(made[0], image(layer({"for": b"s"}), config=Config(architecture="s390x")))
    steps: list[tuple[Image | Index, str, str]] = [(one, f"fresh/{number}", "1") for number, one in enumerate(made)]
    steps += [(one, "fresh/moves", "1") for one in made] + [(multi, "fresh/multi", "1"), (made[3], "fresh/0", "1")]
    async with docker_backend(docker.host) as backend, docker_backend(docker.host, cache=False) as other:
        await following(backend)
        for item, repository, tag in steps:
            before = backend._view.listings
            name = hub.push(item, repository, tag)
            pulled = await pull(backend, name)
            asked = backend._view.listings - before
            assert pulled in await backend.images()
            assert await backend.images() == await other.images()
            # The containerd store's inspect does not tell what its list does.
            assert docker.kind.containerd_store or asked == 0

        digest = f"{hub.address}/fresh/5@{made[5].digest}"
        assert (await pull(backend, digest)).id == (await pull(backend, f"{hub.address}/fresh/5:1")).id
        assert await backend.images() == await other.images()


@pytest.mark.usefixtures("unhurried")
async def test_pulling_what_is_here_changes_nothing(docker: Engine, hub: Registry) -> None:
    """Freshness: `imagePullPolicy: Always` on an image that is here leaves the very same list, and costs no listing."""
    async with docker_backend(docker.host) as backend:
        name = hub.push(image(layer({"for": b"here"})), "fresh/here", "1")
        await pull(backend, name)
        await following(backend)
        listing = await backend.images()

        async def count() -> int:
            before = backend._view.listings
            for _ in range(20):
                await pull(backend, name)
                await asyncio.sleep(0.01)
            assert await backend.images() is listing
            return backend._view.listings - before

        assert await counted(backend, count, lambda found: found == 0) == 0


async def test_somebody_elses_pull_of_the_same(docker: Engine, scripted: Scripted) -> None:
    """A8: while we pull a tag, another client's pull of it that finds another image is seen."""
    one, two = (image(layer({"for": text})) for text in (b"one", b"two"))
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await following(backend)
        with scripted() as hub:
            for _ in range(5):
                name = hub.put(one, "fresh/same", "1")
                await pull(backend, name)
                hub.put(two, "fresh/same", "1")
                await asyncio.to_thread(docker.pull, name.removesuffix(":1"), "1")

                async def holder(name: str = name) -> str:
                    found = await status(backend, name)
                    return "" if found is None else found.image.id.hex

                await becomes(holder, (two.digest if docker.kind.containerd_store else two.id).removeprefix("sha256:"))


async def test_a_failed_pull_leaves_no_expectation(docker: Engine, hub: Registry) -> None:
    """A8: a pull that fails has no event; the next one of that name, by somebody else, is seen."""
    name = f"{hub.address}/fresh/failed:1"
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await following(backend)
        for _ in range(3):
            with pytest.raises(RemoteImageMissing):
                await pull(backend, name)
        hub.push(image(layer({"for": b"failed"})), "fresh/failed", "1")
        await asyncio.to_thread(docker.pull, name.removesuffix(":1"), "1")
        await shows(backend, name)
        hub.client.delete("fresh/failed", image(layer({"for": b"failed"})).digest)


async def test_a_change_before_the_subscription(docker: Engine, hub: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 10.11: the engine subscribes a moment after its headers; what changes in between is asked for by time.

    The moment is made long here: the listing is trusted, and only then the stream is really opened.
    """
    name = hub.push(image(layer({"for": b"gap"})), "fresh/gap", "1")
    docker.pull(name.removesuffix(":1"), "1")
    # Further back than the events that are asked for again.
    await asyncio.sleep(4)
    stream = Client.stream
    subscribe = asyncio.Event()

    @contextlib.asynccontextmanager
    async def late(
        self: Client, method: str, path: str, parameters: dict[str, str], headers: dict[str, str] | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            await subscribe.wait()
            async with stream(self, method, path, parameters, headers) as found:
                async for chunk in found:
                    yield chunk

        yield chunks()

    monkeypatch.setattr(Client, "stream", late)
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await until(lambda: backend._view.trusted)
        await shows(backend, name)
        before = backend._view.generation
        await asyncio.to_thread(docker.tag, name, "in-the-gap", "1")
        subscribe.set()
        # By its event, not by the lag that a list may have.
        await until(lambda: backend._view.generation > before)
        await shows(backend, name, "docker.io/library/in-the-gap:1")


@pytest.mark.usefixtures("unhurried")
async def test_an_unchanged_pull_is_one_request(docker: Engine, hub: Registry) -> None:
    """Issue 10.10: nothing but the engine's own pull by tag, and one question more by digest on a graph driver.

    That somebody else pulls it in between changes nothing about that.
    """
    made = image(layer({"for": b"one request"}))
    tag = hub.push(made, "fresh/request", "1")
    digest = f"{tag.removesuffix(':1')}@{made.digest}"
    async with docker_backend(docker.host, cache_ttl="1h") as backend:
        await following(backend)
        for name in (tag, digest, tag, digest):
            await pull(backend, name)
        await following(backend)
        asked: list[str] = []

        def counted(before: Callable[..., object], name: str) -> Callable[..., object]:
            def call(*arguments: object, **named: object) -> object:
                asked.append(name)
                return before(*arguments, **named)

            return call

        for method in ("images", "inspect", "distribution", "features"):
            setattr(backend._engine, method, counted(getattr(backend._engine, method), method))
        counts = []
        for name in (tag, digest):
            asked.clear()
            pulled = await pull(backend, name)
            counts.append([one for one in asked if one != "features"])
            # What the containerd store may not have told is looked at afterwards.
            await asyncio.gather(*backend._puller._looking)
            await asyncio.to_thread(docker.pull, f"{hub.address}/fresh/request", "1")
            await following(backend)
            assert (pulled,) == await backend.images()

    assert counts == [[], [] if docker.kind.containerd_store else ["distribution"]]
