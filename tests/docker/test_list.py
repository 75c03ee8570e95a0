"""ListImages on real engines (docker L1-L9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from criimage.errors import InvalidRequest
from criimage.reference import Pattern
from criimage.testing.oci import Config, image, layer
from parts.docker_backend import docker_backend, following, listed, pull

if TYPE_CHECKING:
    from criimage.testing.oci import Image
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def small(text: str) -> Image:
    return image(layer({"text": text.encode()}), config=Config(labels={"text": text}))


async def test_nothing_is_an_empty_list(docker: Engine) -> None:
    """L3: no images, no error."""
    async with docker_backend(docker.host) as backend:
        assert await backend.images() == ()


async def test_all_images_with_all_their_names(docker: Engine, hub: Registry) -> None:
    """L1, C1: without a filter each image is listed once, with every tag, sorted, and its digest."""
    name = hub.push(small("list one"), "list/one", "a", "b")
    other = hub.push(small("list two"), "list/two", "z")
    async with docker_backend(docker.host) as backend:
        for one in (f"{name[:-1]}b", name, other):
            await pull(backend, one)
        images = await backend.images()

    shown = {tuple(map(str, entry.tags)): tuple(map(str, entry.digests)) for entry in images}
    repository = name.removesuffix(":a")
    assert shown == {
        (f"{repository}:a", f"{repository}:b"): (f"{repository}@{small('list one').digest}",),
        (other,): (f"{other.removesuffix(':z')}@{small('list two').digest}",),
    }


async def test_the_order_is_steady(docker: Engine, hub: Registry) -> None:
    """L5: images of one moment, which the engine gives in another order each time, stay where they are."""
    async with docker_backend(docker.host, cache=False) as backend:
        for number in range(6):
            await pull(backend, hub.push(small(f"order {number}"), f"order/{number}"))
        orders = {tuple(entry.id.hex for entry in await backend.images()) for _ in range(20)}

    assert len(orders) == 1
    assert list(*orders) == sorted(*orders)


async def test_the_same_tuple_while_nothing_changes(docker: Engine, hub: Registry) -> None:
    """The contract: a list that has not changed is the very same object, even where the engine was asked again."""
    async with docker_backend(docker.host, cache=False) as backend:
        await pull(backend, hub.push(small("same"), "list/same"))
        before = backend._view.listings
        first, second = await backend.images(), await backend.images()

    assert first is second
    assert backend._view.listings == before + 2


# Rows of L6 and L9: the filter, and whether the image is found. R and D stand for its repository and digest.
FILTERS = {
    "busybox": True,
    "foo/bar": True,
    "R": True,
    "busybox:1.36": True,
    "R:1": True,
    "bus*": True,
    "busy?ox": True,
    "foo/[ab]*": True,
    "foo/*": True,
    "foo/*:1": True,
    "*": True,
    "*/*": True,
    "127.0.0.1:*/filters/*": True,
    "*/*/*/*": True,
    "R@D": True,
    "busybox:9": False,
    "*:1": False,
    "reg.example.com/*": False,
    "busybox@D": False,
    "D": False,
    "lib/busybox": False,
    "none": False,
    # L9, ours: what means the same finds the same, on every engine.
    "docker.io/library/busybox": True,
    "docker.io/library/busybox:latest": True,
    "library/busybox": True,
    "docker.io/busybox": True,
    "docker.io/library/bus*": True,
    "index.docker.io/library/busybox": True,
    "R:1@D": True,
}


async def test_what_a_filter_matches(docker: Engine, hub: Registry) -> None:
    """L2, L6, L8, L9: the engine decides which images a reference or a glob matches, in the familiar form of names."""
    made = small("filters")
    name = hub.push(made, "filters/busybox", "1")
    repository = name.removesuffix(":1")
    # There the ID of an image is its manifest's digest, and every name's repository has the image under it.
    also = {"D", "busybox@D"} if docker.kind.containerd_store else set()
    filters = {key: value or key in also for key, value in FILTERS.items()}
    async with docker_backend(docker.host, cache=False) as backend:
        docker.pull(repository, "1")
        for other in ("busybox:latest", "busybox:1.36", "alp:3", "foo/bar:1", "foo/bar:2", "reg.example.com/x/y/z:t"):
            docker.tag(name, *other.split(":"))
        everything = await listed(backend)
        found = {
            text: await listed(backend, text.replace("R", repository).replace("D", made.digest)) for text in filters
        }

    assert len(everything) == 1
    assert found == {text: everything if matches else set() for text, matches in filters.items()}


async def test_a_match_comes_with_all_its_names(docker: Engine, hub: Registry) -> None:
    """L7, cured: the engine leaves out the names that a filter does not match; the answer has them all."""
    name = hub.push(small("trimmed"), "list/trimmed", "1")
    async with docker_backend(docker.host, cache=False) as backend:
        await pull(backend, name)
        docker.tag(name, "elsewhere", "2")
        (found,) = await backend.images(Pattern.parse("elsewhere:2"))
        assert (found,) == await backend.images()

    assert {str(tag) for tag in found.tags} == {name, "docker.io/library/elsewhere:2"}
    assert len(found.digests) >= 1


async def test_an_id_is_a_filter_too(docker: Engine, hub: Registry) -> None:
    """Ours (L6: the engine finds nothing by an ID): a full ID, 64 digits and a short ID each find the image."""
    async with docker_backend(docker.host) as backend:
        made = await pull(backend, hub.push(small("by id"), "list/id"))
        await pull(backend, hub.push(small("another"), "list/another"))
        found = [await listed(backend, text) for text in (f"sha256:{made.id.hex}", made.id.hex, made.id.hex[:12])]
        absent = await listed(backend, "0" * 64)

    assert found == [{str(made.id)}] * 3
    assert absent == set()


async def test_a_filter_never_shows_what_has_no_name(docker: Engine) -> None:
    """L8, C5: an image without any name is listed with none, whatever the engine writes, and no filter finds it."""
    untagged = docker.import_untagged("no name")
    async with docker_backend(docker.host) as backend:
        (left,) = await backend.images()
        found = [await listed(backend, text) for text in ("*", "*/*", "none")]

    assert (str(left.id), left.tags, left.digests) == (untagged, (), ())
    assert found == [set()] * 3


async def test_a_broken_pattern_is_the_callers_fault(docker: Engine, hub: Registry) -> None:
    """L6: what the engine cannot read as a pattern is refused, or matches nothing on the containerd store."""
    async with docker_backend(docker.host) as backend:
        await pull(backend, hub.push(small("pattern"), "list/pattern"))
        if docker.kind.containerd_store:
            assert await listed(backend, "[") == set()
            return
        with pytest.raises(InvalidRequest, match="no valid pattern"):
            await listed(backend, "[")


async def test_every_repository_has_the_digest(docker: Engine, hub: Registry) -> None:
    """C1: an image pulled from two repositories has both digests; the containerd store's list tells one of them."""
    made = small("two repositories")
    names = [hub.push(made, f"list/{repository}", "1") for repository in ("left", "right")]
    async with docker_backend(docker.host) as backend:
        for name in names:
            await pull(backend, name)
        (found,) = await backend.images()

    assert [str(digest) for digest in found.digests] == [f"{name.removesuffix(':1')}@{made.digest}" for name in names]


async def test_filters_are_remembered_while_nothing_changes(docker: Engine, hub: Registry) -> None:
    """Freshness: a filter's answer is used again, and asked for again after a change."""
    async with docker_backend(docker.host) as backend:
        await pull(backend, hub.push(small("remembered"), "list/remembered", "1"))
        await following(backend)
        pattern = Pattern.parse("*/list/*")
        assert await backend.images(pattern) is await backend.images(pattern)

        await pull(backend, hub.push(small("new"), "list/new", "1"))
        assert len(await backend.images(pattern)) == 2
