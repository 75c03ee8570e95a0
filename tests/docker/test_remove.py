"""RemoveImage on real engines (docker R1-R11)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from criimage.errors import ImageInUse, InvalidRequest
from criimage.reference import Lookup
from criimage.testing.oci import image, layer
from parts.docker_backend import docker_backend, pull, remove, status

if TYPE_CHECKING:
    from criimage.backend import Image
    from criimage.reference import ImageID
    from criimage_docker.backend import DockerBackend
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


async def an_image_with_many_names(backend: DockerBackend, docker: Engine, hub: Registry, text: str) -> Image:
    """Two tags of one repository, one of another, and a local one."""
    made = image(layer({"text": text.encode()}))
    names = [hub.push(made, f"{text}/one", "1"), hub.push(made, f"{text}/one", "2"), hub.push(made, f"{text}/two")]
    for name in names:
        await pull(backend, name)
    docker.tag(names[0], "local/name", "here")
    backend._view.changed()
    (found,) = await backend.images()
    return found


@pytest.mark.parametrize("form", ["id", "hex", "short", "tag", "other tag", "digest", "tag and digest", "familiar"])
async def test_every_form_removes_the_image(docker: Engine, hub: Registry, form: str) -> None:
    """R3, R11: by whatever it is named, the image goes with all its names; dockershim knows the full ID only (R2)."""
    async with docker_backend(docker.host) as backend:
        held = await an_image_with_many_names(backend, docker, hub, "remove")
        digest, tag = held.digests[0], held.tags[0]
        texts = {
            "id": f"sha256:{held.id.hex}",
            "hex": held.id.hex,
            "short": held.id.hex[:12],
            "tag": str(tag),
            "other tag": str(held.tags[-1]),
            "digest": str(digest),
            "tag and digest": f"{digest.repository}:1@{digest.digest}",
            "familiar": "local/name:here",
        }
        assert len(held.tags) == 4
        await remove(backend, texts[form])
        seen = await backend.images()

    assert seen == ()
    assert docker.images() == []


async def test_what_is_not_there_is_removed(docker: Engine, hub: Registry) -> None:
    """R1, R4: an unknown ID, a name nobody has, and a second time are all OK; nothing else is touched."""
    async with docker_backend(docker.host) as backend:
        kept = await pull(backend, hub.push(image(layer({"for": b"kept"})), "remove/kept", "1"))
        for absent in ("0" * 64, f"sha256:{'0' * 64}", "remove/kept:1", f"{kept.tags[0].repository}:2"):
            await remove(backend, absent)
        assert await backend.images() == (kept,)

        for _ in range(2):
            await remove(backend, str(kept.id))
        assert await backend.images() == ()


async def test_without_a_name(docker: Engine) -> None:
    """C5, R10: an image that has none goes by its ID; `<none>` is never sent."""
    made = docker.import_untagged("nothing but an ID")
    async with docker_backend(docker.host) as backend:
        await remove(backend, made)
        assert await backend.images() == ()

    assert docker.images() == []


async def test_by_digest_only(docker: Engine, hub: Registry) -> None:
    """R3: an image that was pulled by digest and has no tag."""
    made = image(layer({"for": b"digest only"}))
    async with docker_backend(docker.host) as backend:
        name = hub.push(made, "remove/digest").removesuffix(":latest")
        await pull(backend, f"{name}@{made.digest}")
        await remove(backend, f"{name}@{made.digest}")

    assert docker.images() == []


async def test_in_use_nothing_is_removed(docker: Engine, hub: Registry) -> None:
    """R8, R9: a container, running or not, keeps the image and every name of it; dockershim takes all but one away."""
    async with docker_backend(docker.host) as backend:
        held = await an_image_with_many_names(backend, docker, hub, "used")
        docker.hold(str(held.tags[0]), "user")
        for text in (str(held.id), str(held.tags[-1]), str(held.digests[0])):
            with pytest.raises(ImageInUse, match="user"):
                await remove(backend, text)
        assert await backend.images() == (held,)

    assert docker.containers() == ["user"]


async def test_an_image_built_on_it_is_no_user(docker: Engine, hub: Registry) -> None:
    """R9: a container of another image with the same layers does not count."""
    base = layer({"for": b"base"})
    async with docker_backend(docker.host) as backend:
        lower = await pull(backend, hub.push(image(base), "remove/lower", "1"))
        upper = await pull(backend, hub.push(image(base, layer({"more": b"1"})), "remove/upper", "1"))
        docker.hold(str(upper.tags[0]), "user")
        await remove(backend, str(lower.id))
        assert await backend.images() == (upper,)


async def test_a_container_that_comes_in_between(
    docker: Engine, hub: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: made after the look at the containers, it stops the last removal; the names that were gone are given back."""
    async with docker_backend(docker.host) as backend:
        held = await an_image_with_many_names(backend, docker, hub, "between")
        ask = backend._engine.containers_of

        async def ask_and_come_in_between(image: object) -> list[str]:
            found = await ask(held.id)
            await asyncio.to_thread(docker.hold, str(held.tags[-1]), "late")
            return found

        monkeypatch.setattr(backend._engine, "containers_of", ask_and_come_in_between)
        with pytest.raises(ImageInUse):
            await remove(backend, str(held.id))
        (left,) = await backend.images()

    assert left.tags == held.tags


async def test_a_tag_that_moves_in_between(docker: Engine, hub: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3, contract: pulled anew while the old image is removed, a tag's new image stays; it has no other name."""
    async with docker_backend(docker.host) as backend:
        held = await an_image_with_many_names(backend, docker, hub, "moved")
        moved, ask = held.tags[0], backend._engine.containers_of
        newer = hub.push(image(layer({"newer": b"1"})), "moved/newer")

        async def ask_and_move(found: ImageID) -> list[str]:
            users = await ask(found)
            await asyncio.to_thread(docker.pull, newer.removesuffix(":latest"), "latest")
            await asyncio.to_thread(docker.tag, newer, moved.repository, moved.tag or "")
            await asyncio.to_thread(docker.delete, newer)
            return users

        monkeypatch.setattr(backend._engine, "containers_of", ask_and_move)
        await remove(backend, str(held.id))
        backend._view.changed()
        (left,) = await backend.images()

    assert left.id != held.id
    assert left.tags == (moved,)


async def test_many_at_once(docker: Engine, hub: Registry) -> None:
    """R4, critest: removals of one image at the same time, by different forms, all succeed."""
    async with docker_backend(docker.host) as backend:
        held = await an_image_with_many_names(backend, docker, hub, "at-once")
        texts = [str(held.id), *map(str, held.tags), *map(str, held.digests), held.id.hex[:12]] * 3
        await asyncio.gather(*(remove(backend, text) for text in texts))
        assert await backend.images() == ()


async def test_removals_of_two_services_at_once(docker: Engine, hub: Registry) -> None:
    """R5: what somebody else removed meanwhile is no error."""
    async with docker_backend(docker.host) as one, docker_backend(docker.host) as two:
        held = await an_image_with_many_names(one, docker, hub, "two-services")
        two._view.changed()
        await two.images()
        done = await asyncio.gather(remove(one, str(held.id)), remove(two, str(held.id)), return_exceptions=True)
        await remove(one, str(held.id))

    # The engine itself may refuse one of two that meet on the last name; it never leaves the image there.
    assert sum(isinstance(outcome, BaseException) for outcome in done) <= 1
    assert docker.images() == []


async def test_it_is_gone_for_every_later_call(docker: Engine, hub: Registry) -> None:
    """The contract: when a removal returns, list and status show the image no more, events or not."""
    async with docker_backend(docker.host) as backend:
        for number in range(20):
            name = hub.push(image(layer({"number": str(number).encode()})), "remove/later", str(number))
            held = await pull(backend, name)
            assert await status(backend, name) is not None
            await remove(backend, str(held.id))
            assert await status(backend, name) is None
            assert await backend.images() == ()


@pytest.mark.parametrize("text", ["", "UPPER", "<none>:<none>", "a b", "../containers/victim", "x/../../containers/y"])
def test_what_can_be_no_name_never_gets_here(text: str) -> None:
    """R10, G7: the values that a removal takes cannot be made of such a text."""
    with pytest.raises(InvalidRequest):
        Lookup.parse(text)
