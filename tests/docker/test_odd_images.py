"""Images that are there without being seen easily, and what may not be lost (issue 10.5, 10.6, 10.11)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from criimage.errors import ContentInvalid, ImageInUse, InvalidRequest
from criimage.testing.oci import Blob, image, layer
from criimage.testing.scripted_registry import Stage
from parts.docker_backend import docker_backend, following, listed, pull, remove, status
from parts.engine import Kind
from parts.serving import until

if TYPE_CHECKING:
    from criimage.testing.scripted_registry import ScriptedRegistry
    from docker.conftest import Scripted
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def names_and_digests(docker: Engine, text: str) -> tuple[list[str], list[str]]:
    """What the engine itself says."""
    found = docker.inspect(text)
    assert found is not None
    return sorted(found["RepoTags"]), sorted(set(found["RepoDigests"]))


@pytest.mark.newest
async def test_a_host_of_capital_letters(docker: Engine, hub: Registry) -> None:
    """Issue 10.5: `MYREG/app:1` is an image of the registry MYREG: listed, found, and removed with all its names."""
    name = hub.push(image(layer({"for": b"capital"})), "odd/capital", "1")
    async with docker_backend(docker.host) as backend:
        held = await pull(backend, name)
        if docker.kind is Kind.DEBIAN12:
            # 20.10 reads no such name.
            with pytest.raises(InvalidRequest, match="lowercase"):
                await status(backend, "MYREG/app:1")
            return
        await following(backend)
        for tag in ("1", "2"):
            docker.tag(name, "MYREG/app", tag)
        found = await status(backend, "MYREG/app:1")
        assert found is not None
        assert {"MYREG/app:1", "MYREG/app:2"} < {str(tag) for tag in found.image.tags}
        assert await backend.images() == (found.image,)
        assert await listed(backend, "MYREG/app:2") == {str(held.id)}
        await remove(backend, "MYREG/app:2")

    assert docker.images() == []


async def test_a_refused_removal_changes_nothing(docker: Engine, hub: Registry) -> None:
    """Issue 10.5: in use, or a parent: tags and digests of all repositories are afterwards what they were."""
    made = image(layer({"for": b"refused"}))
    names = [hub.push(made, "odd/refused", "1", "2"), hub.push(made, "odd/refused-too", "1")]
    async with docker_backend(docker.host) as backend:
        (held, *_) = [await pull(backend, name) for name in (*names, f"{names[0][:-1]}2")]
        if docker.kind is not Kind.DEBIAN12:
            for tag in ("1", "2"):
                docker.tag(names[0], "MYREG/app", tag)
        docker.hold(names[0], "user")
        before = names_and_digests(docker, str(held.id))
        with pytest.raises(ImageInUse, match="user"):
            await remove(backend, names[1])
        assert names_and_digests(docker, str(held.id)) == before
        docker.ask("DELETE", "/containers/user", {"force": "1"})

        if not docker.kind.containerd_store:
            child = await asyncio.to_thread(docker.build, names[0], "a=1", "b=2", name="child:1")
            with pytest.raises(ImageInUse, match="parent"):
                await remove(backend, str(held.id))
            assert names_and_digests(docker, str(held.id)) == before
            docker.delete(child)
        await remove(backend, str(held.id))

    assert docker.images() == []


async def test_a_container_in_the_last_moment_keeps_the_digest(
    docker: Engine, hub: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: the last repository goes with the ID, where the engine looks for users first; 26.1 lost its digest."""
    name = hub.push(image(layer({"for": b"last moment"})), "odd/moment", "1", "2")
    async with docker_backend(docker.host) as backend:
        await pull(backend, f"{name[:-1]}2")
        held = await pull(backend, name)
        before = names_and_digests(docker, name)
        ask = backend._engine.containers_of

        async def ask_and_come_in_between(image: object) -> list[str]:
            found = await ask(held.id)
            await asyncio.to_thread(docker.hold, name, "late")
            return found

        monkeypatch.setattr(backend._engine, "containers_of", ask_and_come_in_between)
        with pytest.raises(ImageInUse):
            await remove(backend, str(held.id))

    assert names_and_digests(docker, name) == before


async def test_a_removal_that_is_cancelled(docker: Engine, hub: Registry) -> None:
    """The contract: cancelled at any step, the image is gone, or it has every tag again a moment later."""
    made = image(layer({"for": b"cancelled"}))
    tags = [str(number) for number in range(4)]
    async with docker_backend(docker.host) as backend:
        outcomes = set()
        for steps in range(6):
            name = hub.push(made, "odd/cancelled", *tags)
            (held, *_) = [await pull(backend, f"{name[:-1]}{tag}") for tag in tags]
            done = 0
            delete = backend._engine.delete
            reached = asyncio.Event()

            async def counted(what: object, steps: int = steps, reached: asyncio.Event = reached) -> None:
                nonlocal done
                if done == steps:
                    reached.set()
                    await asyncio.Event().wait()
                done += 1
                await delete(what)  # type: ignore[arg-type]  # noqa: B023 - of this round

            backend._engine.delete = counted  # type: ignore[method-assign, assignment]
            removing = asyncio.create_task(remove(backend, name))
            stopped = asyncio.create_task(reached.wait())
            await asyncio.wait({removing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            removing.cancel()
            await asyncio.wait({removing})
            backend._engine.delete = delete  # type: ignore[method-assign]
            await backend.finish()
            found = await status(backend, str(held.id))
            outcomes.add(found is None)
            assert found is None or [tag.tag for tag in found.image.tags] == tags
            if found is not None:
                await remove(backend, name)
        assert outcomes == {True, False}
        # A lock is kept for as long as somebody wants it.
        assert len(backend._remover._locks) == 0


async def test_no_lock_is_left(docker: Engine, hub: Registry) -> None:
    """Issue 10.11: the table of locks is empty when nobody removes anything, whatever came of the removals."""
    async with docker_backend(docker.host) as backend:
        for number in range(5):
            name = hub.push(image(layer({"number": str(number).encode()})), "odd/locks", str(number))
            held = await pull(backend, name)
            docker.hold(name, f"user{number}")
            with pytest.raises(ImageInUse):
                await remove(backend, name)
            docker.ask("DELETE", f"/containers/user{number}", {"force": "1"})
            await asyncio.gather(*(remove(backend, text) for text in (name, str(held.id), held.id.hex[:12])))
            await remove(backend, name)

        assert len(backend._remover._locks) == 0


def put_artifact(hub: ScriptedRegistry, name: str) -> str:
    """Serves an OCI artifact that is no image, and returns its manifest's digest."""
    parts = {Stage.CONFIG: b"{}", Stage.LAYER: b"an artifact's data"}
    digests = {stage: "sha256:" + hashlib.sha256(data).hexdigest() for stage, data in parts.items()}
    for stage, data in parts.items():
        hub.put_blob(data, digests[stage], stage)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.thing",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digests[Stage.CONFIG], "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": digests[Stage.LAYER], "size": len(parts[Stage.LAYER])}],
    }
    data = json.dumps(manifest).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    hub.put_manifest(Blob(str(manifest["mediaType"]), data, digest), name, "1")
    return digest


@pytest.mark.newest
async def test_an_artifact(docker: Engine, scripted: Scripted) -> None:
    """Issue 10.6: refused by the graph drivers, nothing left; in the containerd store seen by all means and removed."""
    async with docker_backend(docker.host) as backend:
        await following(backend)
        with scripted() as hub:
            digest = put_artifact(hub, "odd/artifact")
            name = f"{hub.address}/odd/artifact:1"
            if not docker.kind.containerd_store:
                with pytest.raises(ContentInvalid, match="unsupported media type"):
                    await pull(backend, name)
                assert await backend.images() == ()
                return
            await pull(backend, name)
            pulled = await pull(backend, name)
        assert str(pulled.id) == digest
        assert await backend.images() == (pulled,)
        for text in (name, digest, digest[7:19], f"{name.removesuffix(':1')}@{digest}"):
            found = await status(backend, text, verbose=True)
            assert found is not None, text
            assert found.image == pulled
        # A listing that comes later has it too.
        backend._view.changed()
        assert await backend.images() == (pulled,)
        await remove(backend, name)
        assert await backend.images() == ()
        assert await status(backend, digest) is None
        assert docker.inspect(digest) is None


async def test_an_artifact_that_others_remove(docker: Engine, scripted: Scripted) -> None:
    """Issue 10.6: what no list of the engine shows goes from ours when it is gone."""
    if not docker.kind.containerd_store:
        return
    async with docker_backend(docker.host) as backend:
        await following(backend)
        with scripted() as hub:
            put_artifact(hub, "odd/artifact")
            pulled = await pull(backend, f"{hub.address}/odd/artifact:1")
        docker.delete(str(pulled.id))
        await until(lambda: backend._view.known(pulled.id) is None)
        assert await backend.images() == ()
