"""Pulls as clients see them over the socket: shared, left, cancelled, cut off (cri-o P1-P3, P13; python-stack 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage.credentials import Credentials
from criimage.errors import AccessDenied, CriimageError, ImageInUse, RegistryUnavailable, RemoteImageMissing
from criimage.reference import Reference
from criimage.testing.memory import RemoteImage
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import WatchedBackend, serving, stocked, until
from server.methods import PULL, field, spec
from server.raw_calls import NAME, auth, begin, held, pulled, sandbox, settled

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.reference import Name


async def test_two_callers_share_one_pull(tmp_path: Path) -> None:
    """Equal requests on two connections, spelled differently, are one pull (P13)."""
    async with serving(tmp_path, held()) as running, raw_client(running.path) as one, raw_client(running.path) as two:
        first = await begin(one)
        second = await begin(two)
        third = await begin(two, name="example.com/a:1")
        await settled(one)
        await settled(two)
        assert len(running.backend.downloads) == 1
        running.backend.open.set()
        for answer in (first, second, third):
            pulled(await answer.finished())
        assert running.backend.calls["pull"] == 1


async def test_a_finished_pull_is_asked_for_again(tmp_path: Path) -> None:
    """The registry is asked each time: no answer comes from an earlier success (cri-protocol 2.5b)."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        for count in (1, 2, 3):
            pulled(await (await begin(client)).finished())
            assert running.backend.calls["pull"] == count


@pytest.mark.parametrize("how", ["reset", "hang up"])
async def test_the_first_caller_leaves_and_the_other_gets_its_image(tmp_path: Path, how: str) -> None:
    """A caller leaves alone, the one who began it too (python-stack 4)."""
    async with serving(tmp_path, held()) as running, raw_client(running.path) as other:
        async with raw_client(running.path) as client:
            first = await begin(client)
            await until(lambda: running.backend.downloads)
            second = await begin(other)
            await settled(other)
            if how == "reset":
                client.cancel(first)
                await client.flush()
        await until(lambda: len(running.left()) == 2)
        await settled(other)
        assert not running.backend.cancelled
        running.backend.open.set()
        pulled(await second.finished())
        assert running.backend.calls["pull"] == 1


@pytest.mark.parametrize("how", ["reset", "hang up"])
async def test_the_pull_stops_when_the_last_caller_leaves(tmp_path: Path, how: str) -> None:
    """When nobody waits, the backend is cancelled at once; later calls find everything in order (P13)."""
    async with serving(tmp_path, held()) as running:
        async with raw_client(running.path) as client:
            answers = [await begin(client) for _ in range(3)]
            await until(lambda: running.backend.downloads)
            if how == "reset":
                for answer in answers:
                    client.cancel(answer)
                await client.flush()
                await until(lambda: running.backend.cancelled)
        await until(lambda: running.backend.cancelled)
        await running.quiet()
        await until(lambda: not running.work._tasks)
        running.backend.open.set()
        async with raw_client(running.path) as client:
            pulled(await (await begin(client)).finished())
        assert running.backend.calls["pull"] == 2


async def test_a_caller_after_the_last_one_left_starts_afresh(tmp_path: Path) -> None:
    """In the very same read as the reset: the new caller does not join a pull that is ending (python-stack 4)."""
    async with serving(tmp_path, held()) as running, raw_client(running.path) as client:
        for count in range(1, 20):
            first = await begin(client)
            await until(lambda count=count: len(running.backend.downloads) == 2 * count - 1)  # type: ignore[misc]
            client.cancel(first)
            second = client.prepare(grpc_headers(PULL), framed(spec(NAME)))
            await client.flush()
            await until(lambda count=count: len(running.backend.downloads) == 2 * count)  # type: ignore[misc]
            running.backend.open.set()
            pulled(await second.finished())
            running.backend.open.clear()
        await until(lambda: len(running.backend.cancelled) == 19)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"", auth("user")),
        (auth("user", "a"), auth("user", "b")),
        (auth("user", "a"), auth("other", "a")),
        (auth("user", "a"), auth("user", "a", "example.com")),
        (field(2, field(5, "token")), field(2, field(6, "token"))),
        (sandbox("one"), sandbox("two")),
    ],
    ids=["none", "password", "user", "server", "kind of token", "namespace"],
)
async def test_what_keeps_pulls_apart(tmp_path: Path, one: bytes, other: bytes) -> None:
    """Different credentials or namespaces never share a pull (P13, cri-protocol 2.5)."""
    async with serving(tmp_path, held()) as running, raw_client(running.path) as client:
        answers = [await begin(client, one), await begin(client, other), await begin(client, one)]
        await until(lambda: len(running.backend.downloads) == 2)
        await settled(client)
        assert len(running.backend.downloads) == 2
        running.backend.open.set()
        for answer in answers:
            pulled(await answer.finished())


async def test_the_owner_and_the_stranger(tmp_path: Path) -> None:
    """While the owner's pull runs, and after it, a caller with other credentials is refused by the registry."""
    registry = stocked()
    owner = Credentials("owner", "secret")
    registry.put("example.com/private:1", RemoteImage("p", owner=owner))
    backend = WatchedBackend(registry)
    backend.open.clear()
    async with serving(tmp_path, backend) as running, raw_client(running.path) as client:
        mine = await begin(client, auth("owner", "secret"), name="example.com/private:1")
        for more in (b"", auth("owner", "wrong"), auth("stranger", "secret")):
            answer = await (await begin(client, more, name="example.com/private:1")).finished()
            assert answer.status == Status.UNKNOWN.value
            assert answer.message == "unauthorized: example.com/private:1"
        backend.open.set()
        assert (await mine.finished()).status == 0
        answer = await (await begin(client, name="example.com/private:1")).finished()
        assert answer.status == Status.UNKNOWN.value


async def test_what_the_backend_is_told(tmp_path: Path) -> None:
    """Credentials by A1-A5 and the context: names from the sandbox config, which is passed on as it came."""
    annotations = field(2, field(1, "k") + field(2, "v"))
    request = field(1, field(1, NAME) + annotations + field(19, "kata")) + auth("u", "p") + sandbox("ns", "pod")
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        pulled(await client.call(PULL, request))
        (told,) = running.backend.contexts
        assert (told.namespace, told.pod, dict(told.annotations), told.runtime_handler) == (
            *("ns", "pod", {"k": "v"}),
            "kata",
        )
        assert field(3, told.sandbox) == sandbox("ns", "pod")
        assert running.backend.pulls == [(Reference.parse(NAME), Credentials("u", "p"))]


async def test_messages_in_pieces_are_merged(tmp_path: Path) -> None:
    """A submessage may come in several fields; the last value of each of its own fields counts (protobuf's rule)."""
    request = (
        spec("example.com/nothing:1") + auth("u") + field(1, field(19, "kata")) + spec(NAME) + field(2, field(2, "p"))
    )
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        pulled(await client.call(PULL, request))
        assert running.backend.pulls == [(Reference.parse(NAME), Credentials("u", "p"))]
        assert running.backend.contexts[0].runtime_handler == "kata"


class _Failing(WatchedBackend):
    """Pulls wait and then fail; every raised error is kept."""

    def __init__(self, error: CriimageError) -> None:
        super().__init__(stocked())
        self.open.clear()
        self.error = error

    async def download(self, remote: RemoteImage) -> None:
        await super().download(remote)
        raise self.error


async def test_an_error_reaches_every_waiter(tmp_path: Path) -> None:
    """Each gets the same text and code, from an object of its own: tracebacks do not pile up (python-stack 4)."""
    error = RegistryUnavailable("dial tcp: refused")
    async with serving(tmp_path, _Failing(error)) as running, raw_client(running.path) as client:
        answers = [await begin(client) for _ in range(20)]
        await settled(client)
        running.backend.open.set()
        for answer in answers:
            await answer.finished()
            assert answer.status == Status.UNKNOWN.value
            assert answer.message == "RegistryUnavailable: dial tcp: refused"
        assert running.backend.calls["pull"] == 1
        depth, traceback = 0, error.__traceback__
        while traceback is not None:
            depth, traceback = depth + 1, traceback.tb_next
        assert depth < 15


@pytest.mark.parametrize("timeout", ["300m", "300000u"])
async def test_the_clients_deadline_stops_the_pull(tmp_path: Path, timeout: str) -> None:
    """DEADLINE_EXCEEDED for that caller; nobody waits any more, so the pull stops (section 4)."""
    async with serving(tmp_path, held()) as running, raw_client(running.path) as client:
        answer = await (await begin(client, timeout=timeout)).finished()
        assert answer.status == Status.DEADLINE_EXCEEDED.value
        await until(lambda: running.backend.cancelled)
        await running.quiet()
        assert not running.work._tasks


async def test_a_deadline_is_its_callers_own(tmp_path: Path) -> None:
    """The pull goes on for the caller who has more time."""
    async with serving(tmp_path, held()) as running, raw_client(running.path) as client:
        patient = await begin(client)
        hasty = await (await begin(client, timeout="50m")).finished()
        assert hasty.status == Status.DEADLINE_EXCEEDED.value
        assert not running.backend.cancelled
        running.backend.open.set()
        pulled(await patient.finished())


class _Candidates(WatchedBackend):
    """Short names mean three registries."""

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        hosts = ["one.example", "two.example", "three.example"] if name.domain is None else [name.domain]
        return tuple(name.qualified(host) for host in hosts)


async def test_the_first_candidate_that_succeeds_is_the_last(tmp_path: Path) -> None:
    """In order, and no further (P2); image_ref of v1alpha2 names the one that was pulled."""
    backend = _Candidates()
    remote = RemoteImage("x")
    backend.registry.put("two.example/x:1", remote)
    backend.registry.put("three.example/x:1", remote)
    async with serving(tmp_path, backend) as running, raw_client(running.path) as client:
        answer = await client.call(PULL.replace("v1", "v1alpha2"), spec("x:1"))
        assert answer.messages == [field(1, f"two.example/x@{remote.digest}")]
        assert [str(reference) for reference, _ in backend.pulls] == ["one.example/x:1", "two.example/x:1"]


async def test_the_last_error_comes_first(tmp_path: Path) -> None:
    """If none succeeds: the last one's kind and text, then the earlier ones by name (P3)."""
    backend = _Candidates()
    backend.registry.put("one.example/x:1", RemoteImage("x", owner=Credentials("u")))
    async with serving(tmp_path, backend) as running, raw_client(running.path) as client:
        answer = await client.call(PULL, spec("x:1"))
        assert answer.status == Status.UNKNOWN.value
        assert answer.message == (
            "manifest unknown: three.example/x:1; earlier: one.example/x:1: unauthorized: one.example/x:1; "
            "two.example/x:1: manifest unknown: two.example/x:1"
        )


@pytest.mark.parametrize(
    ("server", "sent"),
    [
        *(("", True), ("example.com", True), ("https://example.com/v2/", True), ("EXAMPLE.com", True)),
        *(("example.org", False), ("example.com:5000", False), ("https://index.docker.io/v1/", False)),
    ],
)
async def test_credentials_for_another_registry_are_not_sent(tmp_path: Path, server: str, sent: bool) -> None:
    """The pull is tried without them, and one that fails for it says so (section 4, `server_address`)."""
    registry = stocked()
    credentials = Credentials("u", "p", server_address=server)
    registry.put("example.com/private:1", RemoteImage("p", owner=credentials))
    async with serving(tmp_path, WatchedBackend(registry)) as running, raw_client(running.path) as client:
        answer = await client.call(PULL, spec("example.com/private:1") + auth("u", "p", server))
        ((_, given),) = running.backend.pulls
        assert given == (credentials if sent else None)
        if sent:
            assert answer.status == 0
        else:
            assert answer.status == Status.UNKNOWN.value
            assert answer.message == (
                "unauthorized: example.com/private:1 "
                "(the credentials were not sent: they name another registry than example.com)"
            )
        public = await client.call(PULL, spec(NAME) + auth("u", "p", server))
        pulled(public)


def test_errors_for_two_waiters_are_two_objects() -> None:
    """The copy has kind, text and cause of the first, and no traceback of another's task."""
    cause = ValueError("why")
    for kind in (AccessDenied, ImageInUse, RemoteImageMissing):
        with pytest.raises(kind) as caught:
            raise kind("text") from cause
        error = caught.value
        twin = error.for_another_waiter()
        assert (type(twin), twin.text, twin.__cause__, twin.__traceback__) == (kind, "text", cause, None)
        assert twin is not error
        assert error.__traceback__ is not None
