"""Who is at the other end: told in the log, and refused where `[socket] allowed_users` names others."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from criimage.cli import main
from criimage.errors import ConfigurationError
from criimage.logs import SparingLog
from criimage.peer import PEERS_NAMED, Peer, Peers, current_peer, peer_of
from criimage.server import server
from criimage.server.listening.access import Access, access_of
from criimage.settings import SocketSettings, read_layers
from parts.criimage_process import criimage
from parts.missing import need_root
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import WatchedBackend, serving, stocked, until
from server.methods import LIST, PULL, REMOVE, RUNTIME, STATUS, spec

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

PERMISSION_DENIED = 7
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/criimage.v1.PullService/WatchPulls"
REFUSAL = "the user with uid {} may not use this image service: its setting socket.allowed_users names others"


def us() -> Peer:
    return Peer(os.geteuid(), os.getegid(), os.getpid())


def connected_as(user: str, path: Path) -> socket.socket:
    """A connection made by another user than this process's; the kernel keeps what was true when it was made."""
    who = pwd.getpwnam(user)
    made = socket.socket(socket.AF_UNIX)
    os.setegid(who.pw_gid)
    os.seteuid(who.pw_uid)
    try:
        made.connect(str(path))
    finally:
        os.seteuid(0)
        os.setegid(0)
    return made


def list_as(user: str, path: Path) -> tuple[int | None, str]:
    """Status and text of a list that this user asks for."""
    return list_on(connected_as(user, path), path)


def list_on(connected: socket.socket, path: Path) -> tuple[int | None, str]:
    """Status and text of a list on a connection."""

    async def ask() -> tuple[int | None, str]:
        async with raw_client(path, connected=connected) as client:
            answer = await client.call(LIST)
            return answer.status, answer.message

    return asyncio.run(ask())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="criimage-access-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def said(events: list[MutableMapping[str, Any]], text: str) -> list[MutableMapping[str, Any]]:
    return [event for event in events if event["event"] == text]


async def test_a_user_who_is_not_allowed_is_told_so_by_every_method(tmp_path: Path) -> None:
    """PERMISSION_DENIED with a text, no reset: reads that are answered at once, the rest, health, streams."""
    async with serving(tmp_path) as at, raw_client(at.path) as before:
        assert (await before.call(LIST)).status == 0
        at.backend.calls.clear()
        at.server.let_in(Access(frozenset({12345})))
        async with raw_client(at.path) as client:
            for path in (LIST, STATUS, PULL, REMOVE, *RUNTIME, HEALTH, WATCH, "/no.Service/Method"):
                for asking in (client, before):
                    answer = await asking.call(path, spec("example.com/a:1"))
                    assert (answer.status, answer.reset) == (PERMISSION_DENIED, None)
                    assert answer.message == REFUSAL.format(os.geteuid())
        assert not at.backend.calls
        assert at.server.denied == 1


async def test_a_request_that_never_ends_is_answered_at_its_headers(tmp_path: Path) -> None:
    """Nothing of a user's request is waited for who may make none."""
    async with serving(tmp_path) as at:
        at.server.let_in(Access(frozenset({12345})))
        async with raw_client(at.path) as client:
            answer = await client.send(grpc_headers(PULL), end=False)
            assert (await answer.finished()).status == PERMISSION_DENIED


async def test_calls_under_way_go_on_when_their_user_is_taken_out(tmp_path: Path) -> None:
    """A reload ends nothing: the pull is answered, the next call on the same connection is not; let in again, it is."""
    backend = WatchedBackend(stocked())
    backend.open.clear()
    async with serving(tmp_path, backend) as at, raw_client(at.path) as client:
        pull = await client.send(grpc_headers(PULL), framed(spec("example.com/a:1")))
        await until(lambda: backend.downloads)
        at.server.let_in(Access(frozenset({12345})))
        assert (await client.call(LIST)).status == PERMISSION_DENIED
        backend.open.set()
        assert (await pull.finished()).status == 0
        at.server.let_in(Access(frozenset({os.geteuid()})))
        assert (await client.call(LIST)).status == 0


async def test_those_who_may_make_no_calls_give_way(open_folder: Path) -> None:
    """They cannot take the places of those who may: a new connection replaces one of theirs at once."""
    need_root()
    async with serving(open_folder, limits={"connections": 3}) as at:
        at.server.let_in(Access(frozenset({0})))
        at.path.chmod(0o666)
        async with (
            raw_client(at.path) as first,
            raw_client(at.path, connected=connected_as("nobody", at.path)) as denied,
            raw_client(at.path) as second,
        ):
            for client in (denied, first, second):
                await client.call(LIST)
            async with raw_client(at.path) as third:
                await denied.closed.wait()
                for client in (first, second, third):
                    assert (await client.call(LIST)).status == 0


async def test_the_log_names_who_connected_and_who_asked(
    tmp_path: Path, events: list[MutableMapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections at debug, refused ones once a second; pulls and removals with everybody who waited for them."""
    monkeypatch.setattr(server, "_denied", SparingLog("fresh"))
    async with serving(tmp_path) as at:
        async with raw_client(at.path) as client:
            await client.call(PULL, spec("example.com/a:1"))
            await client.call(REMOVE, spec("example.com/a:1"))
        at.server.let_in(Access(frozenset({12345})))
        for _ in range(5):
            async with raw_client(at.path) as client:
                await client.call(LIST)
    named = us()._asdict()
    assert said(events, "connected") == [{"event": "connected", "log_level": "debug", **named}]
    for text in ("pull started", "pull finished", "removal finished"):
        (line,) = said(events, text)
        assert line["asked_by"] == [str(us())]
    first, *_more = said(events, "a user who is not among the allowed ones connected")
    assert first == {"event": first["event"], "log_level": "warning", **named}
    assert len(_more) <= 4
    assert {line["log_level"] for line in said(events, "call denied")} == {"debug"}
    assert said(events, "call failed") == []
    assert at.server.denied == 5


def test_another_user_in_a_server_of_its_own() -> None:
    """As operators have it: nobody can open the socket, is refused, let in by a reload, and told in the log."""
    need_root()
    nobody = pwd.getpwnam("nobody")
    begin = 'backend = "memory"\n[socket]\n'
    with criimage(f'{begin}group = "{nobody.pw_gid}"\nallowed_users = ["root"]\n') as serves:
        serves.folder.chmod(0o755)

        def reloaded(users: str, told: str) -> None:
            serves.config.write_text(f'{begin}group = "{nobody.pw_gid}"\nallowed_users = [{users}]\n')
            serves.process.process.send_signal(signal.SIGHUP)
            serves.process.wait_until(lambda: told in serves.log_text(), seconds=30)

        assert list_as("nobody", serves.socket) == (PERMISSION_DENIED, REFUSAL.format(nobody.pw_uid))
        assert list_as("root", serves.socket) == (0, "")
        reloaded('"root", "nobody"', "changed=['socket.allowed_users']")
        assert list_as("nobody", serves.socket) == (0, "")
        reloaded('"no-such-user"', "no user 'no-such-user' is on this machine")
        assert list_as("nobody", serves.socket) == (0, "")
        serves.stop()
        told = [line for line in serves.log_text().splitlines() if "not among the allowed" in line]
    assert len(told) == 1
    assert f"uid={nobody.pw_uid}" in told[0]
    assert f"pid={os.getpid()}" in told[0]


_SERVE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
sys.argv = ["criimage", "serve", "--config", sys.argv[2], "--listen", "fd://"]
from criimage.cli import main
main()
"""


def test_a_socket_of_systemds_is_no_way_round(open_folder: Path) -> None:
    """With `fd://`, where systemd says by mode and owner who can connect, the list counts as well."""
    need_root()
    path, config = open_folder / "c.sock", open_folder / "config.toml"
    config.write_text('backend = "memory"\n[socket]\nallowed_users = ["root"]\n')
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(path))
        path.chmod(0o666)
        passed.listen()
        # Connected before it serves: they wait in the queue, and need no waiting here.
        nobody, root = connected_as("nobody", path), connected_as("root", path)
        command = [sys.executable, "-c", _SERVE, str(passed.fileno()), str(config)]
        with subprocess.Popen(command, pass_fds=[passed.fileno()], stderr=subprocess.DEVNULL) as server:
            try:
                assert list_on(nobody, path)[0] == PERMISSION_DENIED
                assert list_on(root, path)[0] == 0
            finally:
                server.terminate()


def test_users_are_named_or_numbered() -> None:
    """Names are looked up; empty lets everybody in; root has no exception; without credentials nobody is let in."""
    assert access_of(SocketSettings()).refusal(None) == ""
    found = access_of(SocketSettings(allowed_users=("nobody", 1000, "1001")))
    assert found.users == frozenset({pwd.getpwnam("nobody").pw_uid, 1000, 1001})
    assert found.refusal(Peer(0, 0, 1)) == REFUSAL.format(0)
    assert found.refusal(Peer(1000, 5, 1)) == ""
    assert "does not tell" in found.refusal(None)


@pytest.mark.parametrize("user", ['"no-such-user"', "4294967295", "-5"])
def test_config_check_finds_a_user_that_is_not_there(tmp_path: Path, user: str) -> None:
    """A clear error before anything is started, with the key."""
    config = tmp_path / "config.toml"
    config.write_text(f'backend = "memory"\n[socket]\nallowed_users = [{user}]\n')
    found = CliRunner().invoke(main, ["config", "check", "--config", str(config)])
    assert found.exit_code == 2
    assert "socket.allowed_users: no user" in found.stderr


@pytest.mark.parametrize("value", ["[true]", '[""]', "[1.5]", '"root"', "[[]]"])
def test_what_is_no_user_is_a_fault_of_its_place(tmp_path: Path, value: str) -> None:
    """Neither a name nor a number: told with file and key."""
    config = tmp_path / "config.toml"
    config.write_text(f"[socket]\nallowed_users = {value}\n")
    with pytest.raises(ConfigurationError, match=r"config\.toml, line 2: socket\.allowed_users"):
        read_layers(config, [], {}).settings()


def test_only_so_many_are_named() -> None:
    """A line of the log stays a line, however many share a pull, and names each once."""
    peers = Peers()
    for pid in (*range(PEERS_NAMED * 2), 0):
        token = current_peer.set(Peer(1, 2, pid))
        peers.add_current()
        current_peer.reset(token)
    assert peers.named() == [f"uid=1 gid=2 pid={pid}" for pid in range(PEERS_NAMED)]


def test_a_socket_without_credentials_has_no_peer() -> None:
    """TCP has none, and neither has a unix socket that nobody connected."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as alone:
        assert peer_of(tcp) is None
        assert peer_of(alone) is None
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == us()
