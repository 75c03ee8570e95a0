"""The relay when its runtime is missing, ends, hangs, comes back as another, or has no more places."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status
from h2.settings import SettingCodes

from criimage import problems
from criimage.channel import links
from criimage.testing.scripted_runtime import Script, ScriptedRuntime
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until
from relay.between import SERVICE, STATUS, relayed

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_runtime_that_breaks_off(tmp_path: Path) -> None:
    """What came before is passed on; then the client gets UNAVAILABLE with the reason, and the next call works."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"half",), hang_up=True))
        answer = await there.client.call(STATUS)
        assert answer.messages == [b"half"]
        assert answer.status == Status.UNAVAILABLE.value
        assert str(tmp_path / "runtime.sock") in answer.message
        there.runtime.on(STATUS, Script(messages=(b"whole",)))
        assert (await there.client.call(STATUS)).messages == [b"whole"]


async def test_a_missing_runtime(tmp_path: Path) -> None:
    """UNAVAILABLE at once with the endpoint in the text, health and log say so, and it is found when it comes."""
    path = tmp_path / "runtime.sock"
    async with (
        serving(tmp_path, runtime={"endpoint": f"unix://{path}"}) as server,
        raw_client(server.path) as client,
    ):
        answer = await client.call(STATUS)
        assert answer.status == Status.UNAVAILABLE.value
        assert answer.message == f"cannot reach {path}: No such file or directory"
        assert (await client.call("/grpc.health.v1.Health/Check")).messages == [b"\x08\x02"]
        assert str(path) in problems.standing()["runtime"].text
        # The image service is none the worse.
        assert (await client.call("/runtime.v1.ImageService/ListImages")).status == 0
        async with ScriptedRuntime(path) as runtime:
            runtime.on(STATUS, Script(messages=(b"here",)))
            assert (await client.call(STATUS)).messages == [b"here"]
            await until(lambda: not problems.standing())
            assert (await client.call("/grpc.health.v1.Health/Check")).messages == [b"\x08\x01"]


async def test_a_runtime_that_restarts_is_found_without_a_call(tmp_path: Path) -> None:
    """Connected again by itself, so that a problem that is over is not told until somebody calls."""
    async with relayed(tmp_path) as there:
        await until(lambda: there.runtime.connections == 1)
        await there.runtime.stop()
        await until(lambda: problems.standing())
        await there.runtime.start()
        await until(lambda: not problems.standing())
        assert there.runtime.connections == 2


async def test_a_runtime_that_does_not_finish_the_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE after the handshake's limit, not after the caller's patience."""
    monkeypatch.setattr(links, "HANDSHAKE_SECONDS", 0.2)
    path = tmp_path / "runtime.sock"
    async with ScriptedRuntime(path) as runtime:
        runtime.go_deaf()
        async with (
            serving(tmp_path, runtime={"endpoint": f"unix://{path}"}) as server,
            raw_client(server.path) as client,
        ):
            answer = await client.call(STATUS)
            assert answer.status == Status.UNAVAILABLE.value
            assert answer.message == f"cannot reach {path}: no handshake within 0.2 s"
            runtime.hear_again()
            runtime.on(STATUS, Script())
            await until(lambda: not problems.standing())
            assert (await client.call(STATUS)).status == 0


async def test_a_runtime_that_hangs_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call lasts as long as its caller waits; the silence is a problem, and none any more when it ends."""
    monkeypatch.setattr("criimage.channel.link.INTERVAL", 0.05)
    monkeypatch.setattr("criimage.channel.watch.INTERVAL", 0.05)
    monkeypatch.setattr("criimage.channel.watch.ANSWER_SECONDS", 0.2)
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"late",)))
        await there.client.call(STATUS)
        there.runtime.go_deaf()
        call = await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: "runtime" in problems.standing())
        assert (
            problems.standing()["runtime"].text
            == f"{tmp_path / 'runtime.sock'} does not answer: a PING has had no reply"
        )
        assert not call.done.is_set()
        there.runtime.hear_again()
        assert (await call.finished()).messages == [b"late"]
        await until(lambda: not problems.standing())


async def test_a_deadline_that_the_runtime_does_not_keep(tmp_path: Path) -> None:
    """A client that leaves its deadline to the server gets its answer, and the runtime's call is ended."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(stall_after=0))
        for patience in ("200m", "10S"):
            answer = await there.client.call(STATUS, changes={"grpc-timeout": patience})
            assert answer.status == Status.DEADLINE_EXCEEDED.value
            if there.runtime.called("Status"):
                break  # it was long enough for the call to have come there
        await until(lambda: there.runtime.called("Status")[0].cancelled)


@pytest.mark.parametrize(
    ("asked", "had"), [("v1", "v1alpha2"), ("v1alpha2", "v1"), ("v1", "v1"), ("v1alpha2", "v1alpha2")]
)
async def test_a_version_that_the_runtime_lacks_goes_up_in_the_other(tmp_path: Path, asked: str, had: str) -> None:
    """The same bytes under the other path; one question for a connection, however many calls (relay-and-cri 1)."""
    async with relayed(tmp_path, versions=(had,)) as there:
        there.runtime.on(f"/runtime.{had}.RuntimeService/Status", Script(messages=(b"ready",)))
        calls = [
            await there.client.send(grpc_headers(f"/runtime.{asked}.RuntimeService/Status"), framed(b"\x08\x01"))
            for _ in range(10)
        ]
        for call in calls:
            assert (await call.finished()).messages == [b"ready"]
        assert {call.path for call in there.runtime.called("Status")} == {f"/runtime.{had}.RuntimeService/Status"}
        assert {tuple(call.messages) for call in there.runtime.called("Status")} == {(b"\x08\x01",)}
        assert len(there.runtime.called("Version")) <= 2


async def test_a_runtime_that_does_not_say_its_version_is_asked_in_the_callers(tmp_path: Path) -> None:
    """Whatever error it answers Version with, UNAVAILABLE too: it has that service, and the call goes up as it came."""
    async with relayed(tmp_path) as there:
        there.runtime.on(f"{SERVICE}/Version", Script(status=Status.UNAVAILABLE.value, text="not yet"))
        there.runtime.on(STATUS, Script(messages=(b"ready",)))
        assert (await there.client.call(STATUS)).messages == [b"ready"]


async def test_a_runtime_that_comes_back_with_another_version(tmp_path: Path) -> None:
    """What is known of a runtime ends with the connection to it."""
    async with relayed(tmp_path, versions=("v1alpha2",)) as there:
        for version in ("v1alpha2", "v1"):
            there.runtime.on(f"/runtime.{version}.RuntimeService/Status", Script(messages=(version.encode(),)))
        assert (await there.client.call(STATUS)).messages == [b"v1alpha2"]
        assert there.server.assembly.relay is not None
        links_there = there.server.assembly.relay._channel.links
        before = links_there.generation
        await there.runtime.restart(versions=("v1",))
        await until(lambda: links_there.generation > before)
        # Made before there is a connection again: what was known must not be used for it.
        assert (await there.client.call(STATUS)).messages == [b"v1"]


async def test_more_calls_than_the_runtime_takes_on_a_connection(tmp_path: Path) -> None:
    """Another connection is made instead of a wait: endless streams use no other caller's places up."""
    async with relayed(tmp_path, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 4}) as there:
        there.runtime.on(STATUS, Script(stall_after=0))
        for _ in range(10):
            await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: len(there.runtime.called("Status")) == 10)
        assert there.runtime.connections >= 3


async def test_a_runtime_that_says_goodbye(tmp_path: Path) -> None:
    """Calls under way are answered on the old connection, new ones on a new one."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"answered",), stall_after=1))
        call = await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: call.messages)
        there.runtime.say_goodbye()
        await until(lambda: there.runtime.connections == 2)
        there.runtime.on(STATUS, Script(messages=(b"new",)))
        assert (await there.client.call(STATUS)).messages == [b"new"]
        there.runtime.release()
        assert (await call.finished()).status == 0


async def test_a_goodbye_of_a_runtime_that_takes_no_new_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it still answers what is under way, it is tried now and then, not without a pause."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"answered",), stall_after=1))
        call = await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: call.messages)
        dialled = 0
        connect = links.Links._connect

        async def counted(self: links.Links) -> None:
            nonlocal dialled
            dialled += 1
            await connect(self)

        monkeypatch.setattr(links.Links, "_connect", counted)
        (tmp_path / "runtime.sock").unlink()
        there.runtime.say_goodbye()
        await until(lambda: problems.standing())
        # Far more turns than the pauses leave room for, were there none; the shortest pause is a tenth of a second.
        began = asyncio.get_running_loop().time()
        for _ in range(500):
            await asyncio.sleep(0)
        assert dialled <= 2 + (asyncio.get_running_loop().time() - began) / 0.1
        answer = await there.client.call(STATUS)
        assert answer.status == Status.UNAVAILABLE.value
        there.runtime.release()
        assert (await call.finished()).status == 0
