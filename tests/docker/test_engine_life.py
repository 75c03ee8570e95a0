"""Engines that are not there yet, die, restart, freeze, or become another version (docker A5, issue "engine life")."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest

from criimage.errors import BackendUnavailable, ConfigurationError
from criimage.testing.certificates import Certificates
from criimage.testing.oci import image, layer, noise_layer
from criimage.testing.scripted_registry import Hang, Stage, Trickle
from parts.child import free_port
from parts.docker_backend import docker_backend, following, pull, remove, status
from parts.engine import KINDS, Kind, engine
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from criimage_docker.backend import DockerBackend
    from docker.conftest import Scripted
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.value)
def mortal(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of the test's own, which it may end."""
    with engine(request.param) as running:
        yield running


async def all_calls_fail(backend: DockerBackend, words: str) -> None:
    """Each call says that the engine cannot be reached, with a text that a person can use."""
    for call in (
        backend.images(),
        status(backend, "busybox"),
        pull(backend, "127.0.0.1:1/a:1"),
        remove(backend, "busybox"),
        backend.usage(),
    ):
        with pytest.raises(BackendUnavailable, match=words) as failed:
            await call
        assert "docker.sock" in failed.value.text
    (problem,) = await backend.check()
    assert problem.text
    assert problem.remedy


@pytest.mark.parametrize("trouble", ["missing", "a file", "nobody listens"])
async def test_no_engine_yet(tmp_path: Path, scripted: Scripted, trouble: str) -> None:
    """A5: without an engine every call fails at once; when one comes it is found, without a restart of ours."""
    with engine(Kind.DEBIAN12, started=False) as late:
        if trouble == "a file":
            late.socket.touch()
        if trouble == "nobody listens":
            late.start()
            late.kill()
            assert late.socket.is_socket()
        async with docker_backend(late.host) as backend:
            words = "no such file" if trouble == "missing" else "connection refused"
            await all_calls_fail(backend, words)
            late.start()
            await following(backend)
            with scripted() as hub:
                pulled = await pull(backend, hub.put(image(layer({"for": b"late"})), "team/late"))
            assert await backend.images() == (pulled,)
            assert await backend.check() == ()


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_the_engine_ends_in_the_middle_of_a_pull(mortal: Engine, scripted: Scripted, how: str) -> None:
    """A4, A5: the pull fails as the engine's absence; nothing half is there afterwards; the next pull works."""
    async with docker_backend(mortal.host) as backend:
        with scripted() as hub:
            trickle = hub.script(Stage.LAYER, Trickle(20_000, 0.05))
            name = hub.put(image(noise_layer(3_000_000, seed=how)), "team/dies", "1")
            pulling = asyncio.create_task(pull(backend, name))
            await hub.until(lambda: trickle.reached)
            await asyncio.to_thread(mortal.kill if how == "kill" else mortal.stop)
            with pytest.raises(BackendUnavailable):
                await pulling
            await all_calls_fail(backend, "no such file|connection refused")

            hub.release()
            await asyncio.to_thread(mortal.start)
            assert await backend.images() == ()
            pulled = await pull(backend, name)
            await following(backend)
            assert await backend.images() == (pulled,)


async def test_a_restart_ends_the_listing(mortal: Engine, hub: Registry) -> None:
    """A8: a daemon restart has no event; what changed while nobody listened is seen."""
    name = hub.push(image(layer({"for": b"restart"})), "life/restart", "1")
    async with docker_backend(mortal.host, cache_ttl="1h") as backend:
        pulled = await pull(backend, name)
        await following(backend)
        assert await backend.images() == (pulled,)
        await asyncio.to_thread(mortal.stop)
        await asyncio.to_thread(mortal.start)
        mortal.delete(name)
        assert await backend.images() == ()
        await following(backend)
        assert await pull(backend, name) == pulled


async def test_a_frozen_engine(mortal: Engine, hub: Registry) -> None:
    """A5, G2: a frozen engine is a missing one, after the configured time; thawed, it goes on."""
    name = hub.push(image(layer({"for": b"frozen"})), "life/frozen", "1")
    async with (
        docker_backend(mortal.host, cache=False) as patient,
        docker_backend(mortal.host, request_timeout="1s", cache=False) as backend,
    ):
        await pull(patient, name)
        with mortal.frozen():
            with pytest.raises(BackendUnavailable, match="did not answer in 1 s"):
                await backend.images()
            (problem,) = await backend.check()
            assert "does not answer" in problem.text
        # A busy machine may take longer than a second for an answer, but not each time.
        await until_it_answers(backend)
        assert len(await patient.images()) == 1


async def until_it_answers(backend: DockerBackend) -> None:
    """Asks until there is an answer, and no problem."""
    async with asyncio.timeout(60):
        while await backend.check():
            pass
        while True:
            with contextlib.suppress(BackendUnavailable):
                assert len(await backend.images()) == 1
                return


async def test_a_frozen_engine_and_a_cancelled_pull(mortal: Engine, scripted: Scripted) -> None:
    """The contract: a cancel ends at once, even where the engine cannot notice."""
    async with docker_backend(mortal.host) as backend:
        with scripted() as hub:
            hang = hub.script(Stage.LAYER, Hang(after=1000))
            name = hub.put(image(noise_layer(100_000, seed="frozen")), "team/frozen", "1")
            pulling = asyncio.create_task(pull(backend, name))
            await hub.until(lambda: hang.reached)
            with mortal.frozen():
                pulling.cancel()
                async with asyncio.timeout(30):
                    with pytest.raises(asyncio.CancelledError):
                        await pulling


async def test_an_upgrade_and_a_downgrade(scripted: Scripted) -> None:
    """A5, section 8: another version at the same address is spoken to in its own API, without a restart of ours."""
    with engine(Kind.DEBIAN12) as changing:
        async with docker_backend(changing.host) as backend:
            with scripted() as hub:
                name = hub.put(image(layer({"for": b"versions"})), "team/versions", "1")
                pulled = await pull(backend, name)
                assert await backend._engine.version() == (1, 41)

                changing.stop()
                changing.start(Kind.DEBIAN13)
                # Its data is the same; what the older version could do the newer one can.
                assert await backend.images() == (pulled,)
                await until(lambda: backend._engine._version == (1, 45))

                changing.stop()
                shutil.rmtree(changing.folder / "data")
                changing.start(Kind.DEBIAN12)
                # Nothing waits for the event stream: the first call of any kind settles the version.
                assert await backend.images() == ()
                assert await backend._engine.version() == (1, 41)
                assert await pull(backend, name) == pulled


@pytest.mark.parametrize("call", ["images", "pull", "usage", "remove"])
async def test_a_version_that_is_too_new(call: str, scripted: Scripted) -> None:
    """A5: "client version is too new" is an answer to settle on, whatever the call."""
    with engine(Kind.DEBIAN12) as older, scripted() as hub:
        async with docker_backend(older.host, cache=False) as backend:
            name = hub.put(image(layer({"for": b"too new"})), "team/new", "1")
            pulled = await pull(backend, name)
            backend._engine._speak((1, 45))
            match call:
                case "images":
                    assert await backend.images() == (pulled,)
                case "pull":
                    assert await pull(backend, name) == pulled
                case "usage":
                    assert (await backend.usage()).images
                case _:
                    await remove(backend, name)
            assert await backend._engine.version() == (1, 41)


@contextlib.contextmanager
def engine_on_tcp(kind: Kind, *options: str) -> Iterator[tuple[Engine, str]]:
    """An engine that listens on a port of 127.0.0.1 as well."""
    port = free_port()
    with engine(kind, options=[f"--host=tcp://127.0.0.1:{port}", *options]) as running:
        yield running, f"127.0.0.1:{port}"


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.value)
async def test_over_tcp(kind: Kind, hub: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine life: tcp by setting and by DOCKER_HOST; an engine elsewhere tells its own mountpoint and no inodes."""
    name = hub.push(image(layer({"for": b"tcp"})), "life/tcp", "1")
    with engine_on_tcp(kind, "--tls=false") as (_, address):
        async with docker_backend(f"tcp://{address}") as backend:
            pulled = await pull(backend, name)
            await following(backend)
            usage = await backend.usage()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{address}")
        async with docker_backend("") as backend:
            assert await backend.images() == (pulled,)

    assert usage.images[0].inodes_used is None


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.value)
async def test_over_tls(kind: Kind, tmp_path: Path, hub: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine life: both sides show certificates, from `cert_path` or DOCKER_CERT_PATH; others are not let in."""
    client, server = certificates(tmp_path)
    name = hub.push(image(layer({"for": b"tls"})), "life/tls", "1")
    places = ["--tlsverify"]
    with engine(kind, started=False) as running:
        for file in ("ca.pem", "cert.pem", "key.pem"):
            shutil.copy(server / file, running.folder)
        inside = running.folder if kind.system is None else "/mnt"
        port = free_port()
        places += [f"--tlscacert={inside}/ca.pem", f"--tlscert={inside}/cert.pem", f"--tlskey={inside}/key.pem"]
        running.options = (f"--host=tcp://127.0.0.1:{port}", *places)
        running.start()
        host = f"tcp://127.0.0.1:{port}"
        async with docker_backend(host, cert_path=str(client)) as backend:
            pulled = await pull(backend, name)
            await following(backend)
            assert await backend.images() == (pulled,)

        monkeypatch.setenv("DOCKER_HOST", host)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(client))
        async with docker_backend("") as backend:
            assert await backend.images() == (pulled,)

        # Somebody else's authority.
        (tmp_path / "other").mkdir()
        stranger, _ = certificates(tmp_path / "other")
        async with docker_backend(host, cert_path=str(stranger)) as backend:
            with pytest.raises(BackendUnavailable, match="TLS"):
                await backend.images()
        # Nobody's.
        for file in ("cert.pem", "key.pem"):
            (stranger / file).unlink()
        shutil.copy(client / "ca.pem", stranger)
        async with docker_backend(host, cert_path=str(stranger)) as backend:
            with pytest.raises(BackendUnavailable):
                await backend.images()


def certificates(folder: Path) -> tuple[Path, Path]:
    """Folders of a client and a server that know each other's authority."""
    made = Certificates.make(folder)
    places = (folder / "client", folder / "server")
    for place in places:
        place.mkdir()
        shutil.copy(made.ca_folder / "ca.crt", place / "ca.pem")
        shutil.copy(made.certificate, place / "cert.pem")
        shutil.copy(made.key, place / "key.pem")
    return places


async def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    """Engine life: a folder without certificates, or with something else, is told at the start."""
    for make in (lambda: None, lambda: (tmp_path / "ca.pem").write_text("no certificate")):
        make()
        with pytest.raises(ConfigurationError, match=str(tmp_path)):
            async with docker_backend("tcp://127.0.0.1:1", cert_path=str(tmp_path)):
                pass


async def test_nothing_is_left_behind(mortal: Engine, hub: Registry) -> None:
    """The backend closes its connections and ends its tasks, also while the engine is frozen."""
    name = hub.push(image(layer({"for": b"left"})), "life/left", "1")
    before = asyncio.all_tasks()
    async with docker_backend(mortal.host) as backend:
        await pull(backend, name)
        await following(backend)
        with mortal.frozen():
            backend._view.changed()
            waiting = asyncio.create_task(backend.images())
            await asyncio.sleep(0.1)
    await asyncio.wait({waiting})
    await until(lambda: asyncio.all_tasks() <= before)

    assert waiting.cancelled() or waiting.exception() is None
