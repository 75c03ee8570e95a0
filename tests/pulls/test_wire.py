"""Our own PullService, asked over a real socket."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpclib.const import Status

from criimage import wire
from criimage.cri.criimage.v1 import (
    CancelPullRequest,
    ListPullsResponse,
    Pull,
    PullPhase,
    WatchPullsResponse,
)
from criimage.cri.runtime.v1 import (
    AuthConfig,
    ImageSpec,
    PodSandboxConfig,
    PodSandboxMetadata,
    PullImageRequest,
    PullImageResponse,
)
from criimage.server.services import pull_service
from criimage.server.services.pull_service import PullService
from criimage.server.services.stopping import Stopping
from criimage.testing.memory import RemoteImage
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import PATIENCE, serving, until
from pulls.clock import on_a_clock
from pulls.fake_backend import setting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from criimage.pulls.running import PullView
    from parts.raw_client import Answer, RawClient
    from parts.serving import Serving

SERVICE = "/criimage.v1.PullService"
PULL = "/runtime.v1.ImageService/PullImage"


@asynccontextmanager
async def talking(folder: Path, pulls: dict[str, Any] | None = None) -> AsyncIterator[tuple[Serving, RawClient]]:
    """A server whose downloads wait, and a client."""
    async with serving(folder, pulls=pulls or {}) as server, raw_client(server.path) as client:
        server.backend.open.clear()
        yield server, client


def pull_request(name: str, pod: str = "", *, password: str = "") -> bytes:
    request = PullImageRequest(image=ImageSpec(image=name))
    if pod:
        namespace, _, podname = pod.partition("/")
        request.sandbox_config = PodSandboxConfig(metadata=PodSandboxMetadata(namespace=namespace, name=podname))
    if password:
        request.auth = AuthConfig(username="bob", password=password)
    return bytes(request)


async def begin(client: RawClient, name: str, pod: str = "", *, password: str = "") -> Answer:
    """Asks for a pull and does not wait."""
    return await client.send(grpc_headers(PULL), framed(pull_request(name, pod, password=password)))


async def listed(client: RawClient) -> list[Pull]:
    answer = await client.call(f"{SERVICE}/ListPulls")
    assert answer.status == 0
    return ListPullsResponse().parse(answer.messages[0]).pulls


def watched(answer: Answer) -> list[list[Pull]]:
    return [WatchPullsResponse().parse(message).pulls for message in answer.messages]


async def test_list_shows_everything_there_is_to_know(tmp_path: Path) -> None:
    """Every field of the message; waiters as `namespace/pod` (design section 7, issue 5)."""
    async with talking(tmp_path) as (server, client):
        assert await listed(client) == []
        first = await begin(client, "example.com/a:1", "prod/web-0")
        second = await begin(client, "example.com/a:1", "prod/web-1")
        await until(lambda: server.assembly.pulls.running() and len(server.assembly.pulls.running()[0].waiters) == 2)
        (pull,) = await listed(client)
        assert (pull.id, pull.reference, pull.resolved) == ("1", "example.com/a:1", "example.com/a:1")
        assert PullPhase(pull.phase).name == "DOWNLOADING"
        assert (pull.bytes_done, pull.bytes_total) == (0, 1000)
        assert sorted(waiter.pod for waiter in pull.waiters) == ["prod/web-0", "prod/web-1"]
        assert pull.started > 10**18
        server.backend.open.set()
        for answer in (first, second):
            await answer.finished()
            assert PullImageResponse().parse(answer.messages[0]).image_ref
        assert server.backend.calls["pull"] == 1
        assert await listed(client) == []


async def test_watch_tells_every_change(tmp_path: Path) -> None:
    """At once, then the pull from its beginning to its last phase, then nothing more; it does not end by itself."""
    async with talking(tmp_path) as (server, client):
        answer = await client.send(grpc_headers(f"{SERVICE}/WatchPulls"), framed(b""))
        await until(lambda: answer.messages)
        assert watched(answer) == [[]]
        pulling = await begin(client, "example.com/a:1")
        await until(lambda: any(watched(answer)))
        server.backend.open.set()
        await pulling.finished()
        await until(lambda: watched(answer)[-1] == [] and len(watched(answer)) > 2)
        phases = [PullPhase(pull.phase).name for pulls in watched(answer) for pull in pulls]
        assert phases[0] in {"QUEUED", "RESOLVING", "DOWNLOADING"}
        assert phases[-1] == "DONE"
        last = next(pulls[0] for pulls in reversed(watched(answer)) if pulls)
        assert (last.bytes_done, last.bytes_total) == (1000, 1000)
        count = len(answer.messages)
        await asyncio.sleep(0.6)  # nothing changes, so nothing is said
        assert len(answer.messages) == count
        assert not answer.done.is_set()
        client.cancel(answer)
        await client.flush()
        await server.quiet()


async def test_watch_shows_a_pull_however_short(tmp_path: Path) -> None:
    """A pull that begins and ends between two messages is shown once, in its last phase."""
    async with talking(tmp_path) as (server, client):
        server.backend.open.set()
        answer = await client.send(grpc_headers(f"{SERVICE}/WatchPulls"), framed(b""))
        await until(lambda: answer.messages)
        for _ in range(3):
            await client.call(PULL, pull_request("example.com/a:1"))
        await client.call(PULL, pull_request("example.com/none"))

        def ended() -> list[str]:
            # One that was in its middle just then is shown twice.
            phases = [PullPhase(pull.phase).name for pulls in watched(answer) for pull in pulls]
            return sorted(phase for phase in phases if phase in {"DONE", "FAILED"})

        await until(lambda: len(ended()) >= 4)
        assert ended() == ["DONE", "DONE", "DONE", "FAILED"]


async def test_many_watchers_cost_one_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at about the same moment is told the same bytes; what has begun or ended since is told anew."""
    monkeypatch.setattr(pull_service, "SHARED_SECONDS", 3600.0)
    async with talking(tmp_path) as (server, client):
        encoded = []
        running = server.assembly.pulls.running

        def counted() -> tuple[PullView, ...]:
            encoded.append(running())
            return encoded[-1]

        monkeypatch.setattr(server.assembly.pulls, "running", counted)
        answers = [await client.send(grpc_headers(f"{SERVICE}/WatchPulls"), framed(b"")) for _ in range(20)]
        await until(lambda: all(answer.messages for answer in answers))
        assert [len(views) for views in encoded] == [0]
        pulling = await begin(client, "example.com/a:1")
        await until(lambda: all(any(watched(answer)) for answer in answers))
        assert [len(views) for views in encoded] == [0, 1]
        server.backend.open.set()
        await pulling.finished()
        await until(lambda: all(watched(answer)[-1] == [] for answer in answers))
        assert [len(views) for views in encoded] == [0, 1, 0]


async def test_a_stopping_server_ends_watches(tmp_path: Path) -> None:
    """SIGTERM does not wait for watchers, and a pull's caller is told why it ends."""
    async with talking(tmp_path) as (server, client):
        answer = await client.send(grpc_headers(f"{SERVICE}/WatchPulls"), framed(b""))
        pulling = await begin(client, "example.com/a:1")
        await until(lambda: server.backend.downloads and answer.messages)
        async with asyncio.timeout(PATIENCE):
            await server.assembly.stop()
        await pulling.finished()
        assert (pulling.status, pulling.message) == (2, "the image service is stopping")
        await answer.finished()


async def test_cancel_ends_a_pull(tmp_path: Path) -> None:
    """All its callers are told by whom, with UNKNOWN, so that kubelet shows the bare text (protocol 2.4)."""
    async with talking(tmp_path) as (server, client):
        pulling = [await begin(client, "example.com/a:1") for _ in range(2)]
        await until(lambda: server.backend.downloads)
        (pull,) = await listed(client)
        answer = await client.call(f"{SERVICE}/CancelPull", bytes(CancelPullRequest(id=pull.id)))
        assert answer.status == 0
        for caller in pulling:
            await caller.finished()
            assert (caller.status, caller.message) == (2, "cancelled by the operator: example.com/a:1")
        assert [remote.content for remote in server.backend.cancelled] == ["a1"]
        for unknown in (pull.id, "99", "", "../1"):
            answer = await client.call(f"{SERVICE}/CancelPull", bytes(CancelPullRequest(id=unknown)))
            assert (answer.status, answer.message) == (5, "no such pull is running")
        for method in ("CancelPull", "ListPulls", "WatchPulls"):
            assert (await client.call(f"{SERVICE}/{method}", b"\xff\xff")).status == 3


async def test_callers_leave_by_reset_and_by_deadline(tmp_path: Path) -> None:
    """A reset or a passed deadline takes one caller away; the last one stops the download (P13, P14, A2)."""
    async with talking(tmp_path) as (server, client):
        first = await begin(client, "example.com/a:1")
        stays = await begin(client, "example.com/a:1")
        await until(lambda: server.backend.downloads)
        late = await client.send(grpc_headers(PULL, {"grpc-timeout": "50m"}), framed(pull_request("example.com/a:1")))
        await late.finished()
        assert late.status == 4
        client.cancel(first)
        await client.flush()
        await until(lambda: len(server.assembly.pulls.running()[0].waiters) == 1)
        assert not server.backend.cancelled
        client.cancel(stays)
        await client.flush()
        await until(lambda: server.backend.cancelled)
        assert server.assembly.pulls.running() == ()


async def test_other_credentials_never_share(tmp_path: Path) -> None:
    """Each asks the registry with its own; the one that may not is refused while the other gets it (2.5b)."""
    async with talking(tmp_path) as (server, client):
        mine = await begin(client, "example.com/a:1", password="right")  # noqa: S106
        other = await begin(client, "example.com/a:1", password="wrong")  # noqa: S106
        await until(lambda: len(server.backend.downloads) == 2)
        assert len({pull.id for pull in await listed(client)}) == 2
        server.backend.open.set()
        for answer in (mine, other):
            await answer.finished()
        assert server.backend.calls["pull"] == 2


async def test_limits_and_deadlines_come_from_the_settings(tmp_path: Path) -> None:
    """`[pulls]` and its tables for registries reach the pulls; a queued one is visible as such."""
    pulls = {"max_parallel_per_registry": 1, "registry": {"hung.example": {"progress_timeout": "500ms"}}}
    async with talking(tmp_path, pulls=pulls) as (server, client):
        server.backend.registry.put("hung.example/x", RemoteImage("x"))
        hung = await begin(client, "hung.example/x")
        await hung.finished()
        text = "pull cut off: no progress for 500ms while downloading layers: hung.example/x:latest"
        assert (hung.status, hung.message) == (2, text)
        for name in ("a:1", "a:2", "b:1"):
            await begin(client, f"example.com/{name}")
        await until(lambda: len(server.assembly.pulls.running()) == 3)
        phases = [PullPhase(pull.phase).name for pull in await listed(client)]
        assert phases == ["DOWNLOADING", "QUEUED", "QUEUED"]


@pytest.mark.filterwarnings("ignore")  # of grpcio itself
async def test_googles_own_client(tmp_path: Path) -> None:
    """The whole service by grpcio: a list, a stream that the client ends, NOT_FOUND."""
    async with talking(tmp_path) as (server, client):
        pulling = await begin(client, "example.com/a:1")
        await until(lambda: server.backend.downloads)

        def talk() -> tuple[str, grpc.StatusCode, list[int]]:
            with grpc.insecure_channel(f"unix:{server.path}") as opened:
                channel: Any = opened  # its stubs want serializers that are not needed for bytes
                found = ListPullsResponse().parse(channel.unary_unary(f"{SERVICE}/ListPulls")(b"", timeout=PATIENCE))
                watching = channel.unary_stream(f"{SERVICE}/WatchPulls")(b"", timeout=PATIENCE)
                seen = [len(WatchPullsResponse().parse(next(watching)).pulls)]
                watching.cancel()
                cancel = channel.unary_unary(f"{SERVICE}/CancelPull")
                with pytest.raises(grpc.RpcError) as caught:
                    cancel(bytes(CancelPullRequest(id="99")), timeout=PATIENCE)
                cancel(bytes(CancelPullRequest(id=found.pulls[0].id)), timeout=PATIENCE)
                return found.pulls[0].reference, caught.value.code(), seen

        assert await asyncio.to_thread(talk) == ("example.com/a:1", grpc.StatusCode.NOT_FOUND, [1])
        await pulling.finished()
        assert pulling.message.startswith("cancelled by the operator")


async def test_the_end_of_a_removal_that_is_not_there(tmp_path: Path) -> None:
    """NOT_FOUND with a sentence, as for pulls."""
    async with talking(tmp_path) as (_, client):
        answer = await client.call("/criimage.v1.RemovalService/CancelRemoval", wire.text_field(1, "7"))
    assert (answer.status, answer.message) == (Status.NOT_FOUND.value, "no such removal is running")


@on_a_clock
async def test_a_watch_looks_as_often_as_it_says() -> None:
    """While nothing changes it looks each WATCH_SECONDS, and a pull that ended as it paused is told at once."""
    async with setting() as at:
        stopping = Stopping()
        service = PullService(at.pulls, stopping)
        looks: list[float] = []
        ended_since, loop = at.pulls.ended_since, asyncio.get_running_loop()

        def counted(mark: int) -> tuple[PullView, ...]:
            looks.append(loop.time())
            return ended_since(mark)

        at.pulls.ended_since = counted  # type: ignore[method-assign]
        watch = service._watch(b"")
        assert await anext(watch) == b""
        following = asyncio.ensure_future(anext(watch))
        began = loop.time()
        await asyncio.sleep(10)
        assert len(looks) == pytest.approx(10 / pull_service.WATCH_SECONDS, abs=2)

        task = await at.call("a.example/x:1")
        assert b"a.example/x:1" in await following
        following = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(pull_service.PAUSE_SECONDS / 2)
        at.attempts[0].succeed()
        await task
        began = loop.time()
        await following
        assert loop.time() - began < pull_service.PAUSE_SECONDS
        stopping.begin()
