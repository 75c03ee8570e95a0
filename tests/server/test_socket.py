"""The listening socket: whose path it is, who wins it, what is left of it (python-stack 2)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from criimage.errors import ConfigurationError
from criimage.server.listening.listener import SEND_BUFFER
from criimage.server.listening.socket import BACKLOG, BoundSocket
from criimage.server.server import Server
from criimage.settings import LimitSettings
from parts.serving import serving, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpclib.const import Status


def endpoint(path: Path) -> str:
    return f"unix://{path}"


def listener(path: Path, backlog: int = 5) -> socket.socket:
    """Another program's socket."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(backlog)
    return made


def test_what_is_made_and_what_is_left(tmp_path: Path) -> None:
    """Directories are made with 0750, the socket has 0660 whatever the umask, and at the end both files are gone."""
    path = tmp_path / "run" / "criimage" / "c.sock"
    before = os.umask(0o077)
    try:
        with BoundSocket.open(endpoint(path)) as bound:
            assert bound.endpoint == endpoint(path)
            status = path.lstat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == 0o660
            assert stat.S_IMODE(path.parent.stat().st_mode) & 0o027 == 0
            assert not bound.socket.get_inheritable()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
    finally:
        assert os.umask(before) == 0o077
    assert not list(path.parent.iterdir())


def test_a_stale_file_is_removed(tmp_path: Path) -> None:
    """A socket that nobody serves any more, as a killed server leaves it, with its lock file."""
    path = tmp_path / "c.sock"
    listener(path).close()
    (tmp_path / "c.sock.lock").touch()
    assert path.exists()
    with BoundSocket.open(endpoint(path)):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("queue", ["empty", "full"])
def test_a_live_socket_is_not_taken_over(tmp_path: Path, queue: str) -> None:
    """Neither another program's that answers, nor one whose queue is full; it is left as it was."""
    path = tmp_path / "c.sock"
    with ExitStack() as stack:
        other = stack.enter_context(listener(path, backlog=0))
        if queue == "full":
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.connect(str(path))
            extra = stack.enter_context(socket.socket(socket.AF_UNIX))
            extra.setblocking(False)
            with pytest.raises(BlockingIOError):
                extra.connect(str(path))
        inode = path.lstat().st_ino
        with pytest.raises(ConfigurationError, match="in use by another process"):
            BoundSocket.open(endpoint(path))
        assert path.lstat().st_ino == inode
        other.settimeout(10)
        other.accept()[0].close()
        assert sorted(tmp_path.iterdir()) == [path]


def test_a_socket_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    """A datagram socket, such as a log's, cannot be asked whether it is alive."""
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ConfigurationError, match="wrong type"):
            BoundSocket.open(endpoint(path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_that_was_removed_while_it_was_taken_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner ended between our opening and our locking of its file: we make one that others see."""
    path = tmp_path / "c.sock"
    flock, calls = fcntl.flock, []

    def slow(lock: int, how: int) -> None:
        calls.append(lock)
        if len(calls) == 1:
            (tmp_path / "c.sock.lock").unlink()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with BoundSocket.open(endpoint(path)):
        assert len(calls) == 2
        with pytest.raises(ConfigurationError, match="in use by another criimage"):
            BoundSocket.open(endpoint(path))


def test_a_second_criimage_is_refused(tmp_path: Path) -> None:
    """Also while the first one's socket file is gone: the lock decides."""
    path = tmp_path / "c.sock"
    with BoundSocket.open(endpoint(path)):
        with pytest.raises(ConfigurationError, match="in use by another criimage"):
            BoundSocket.open(endpoint(path))
        path.unlink()
        with pytest.raises(ConfigurationError, match="in use by another criimage"):
            BoundSocket.open(endpoint(path))
    with BoundSocket.open(endpoint(path)):
        pass


def _file(path: Path) -> None:
    path.write_text("precious")


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    path.symlink_to("/dev/null")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_file, _folder, _link, _fifo])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A file, folder, link or pipe in the socket's place is the operator's to remove."""
    path = tmp_path / "c.sock"
    make(path)
    before = path.lstat()
    with pytest.raises(ConfigurationError, match="is no socket; it was left alone"):
        BoundSocket.open(endpoint(path))
    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


def test_another_servers_file_is_not_removed(tmp_path: Path) -> None:
    """If somebody has put a socket of theirs in the place, it stays at our end."""
    path = tmp_path / "c.sock"
    bound = BoundSocket.open(endpoint(path))
    path.unlink()
    with listener(path):
        bound.close()
        assert path.exists()
    bound.close()


@pytest.mark.parametrize(
    ("listen", "text"),
    [
        (f"unix:///{'x' * 107}", "longer than 107 bytes"),
        ("unix://relative", "not of the form"),
        ("tcp://127.0.0.1:1", "not of the form"),
        ("", "not of the form"),
        ("unix:///a\0b", "not of the form"),
        ("unix:///", "it is a directory"),
        ("/", "it is a directory"),
        ("unix:///dev/null/c.sock", "Not a directory|File exists"),
        ("unix:///proc/c.sock", "No such file|Permission denied"),
    ],
)
def test_endpoints_that_cannot_be(listen: str, text: str) -> None:
    """Each is a ConfigurationError that says why."""
    with pytest.raises(ConfigurationError, match=text):
        BoundSocket.open(listen)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Nobody can make a root server create or lock a file elsewhere."""
    (tmp_path / "c.sock.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigurationError, match="cannot listen"):
        BoundSocket.open(endpoint(tmp_path / "c.sock"))
    assert not (tmp_path / "victim").exists()


def test_the_longest_path_works(tmp_path: Path) -> None:
    """107 bytes are what a socket's address takes."""
    room = 107 - len(str(tmp_path)) - 1
    path = tmp_path / ("x" * room)
    with BoundSocket.open(endpoint(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


_STARTER = """
import os, sys, time
from criimage.errors import ConfigurationError
from criimage.server.listening.socket import BoundSocket
sys.stdin.readline()
try:
    bound = BoundSocket.open(sys.argv[1])
except ConfigurationError as error:
    print("lost", error.text, flush=True)
    sys.stdin.readline()
else:
    print("won", flush=True)
    sys.stdin.readline()
    bound.close()
"""


def test_of_several_starters_exactly_one_wins(tmp_path: Path) -> None:
    """On a path with a stale socket, started at the same moment; the winner's socket is the one at the path."""
    path = tmp_path / "c.sock"
    for _ in range(3):
        listener(path).close()
        command = [sys.executable, "-c", _STARTER, endpoint(path)]
        starters = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        for starter in starters:
            assert starter.stdin
            starter.stdin.write("go\n")
            starter.stdin.flush()
        said = []
        for starter in starters:
            assert starter.stdout
            said.append(starter.stdout.readline())
        assert sorted(line.split()[0] for line in said) == ["lost", "lost", "lost", "won"]
        assert all("in use by another" in line for line in said if line.startswith("lost"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        for starter in starters:
            starter.communicate("end\n")
            assert starter.returncode == 0
        assert not list(tmp_path.iterdir())


def test_starters_in_one_process_race_as_well(tmp_path: Path) -> None:
    """Opening and closing from several threads never has two owners at once, nor leaves a lock behind."""
    path, owners, seen = tmp_path / "c.sock", [0], []

    def compete() -> None:
        for _ in range(200):
            try:
                bound = BoundSocket.open(endpoint(path))
            except ConfigurationError:
                continue
            owners[0] += 1
            seen.append(owners[0])
            owners[0] -= 1
            bound.close()

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {1}
    assert not list(tmp_path.iterdir())


_PASSED = """
import os, socket, sys
os.environ["LISTEN_PID"] = str(os.getpid()) if sys.argv[2] == "mine" else "1"
os.environ["LISTEN_FDS"] = sys.argv[3]
from criimage.errors import ConfigurationError
from criimage.server.listening.socket import BoundSocket
try:
    listen = sys.argv[4]
    with BoundSocket.open(listen) as bound:
        assert bound.endpoint == listen and not os.get_inheritable(3) and not bound.socket.getblocking()
        client = socket.socket(socket.AF_UNIX)
        client.connect(sys.argv[1])
        bound.socket.accept()[0].send(b"x")
        print(client.recv(1).decode())
except ConfigurationError as error:
    print(error.text)
"""


def _passed(path: Path, given: int, *, pid: str = "mine", count: str = "1", listen: str = "fd://") -> str:
    """What a child says that got this descriptor as its number 3."""
    script = 'exec 3<&"$1"; shift; exec "$@"' if given >= 0 else 'exec 3<&-; shift; exec "$@"'
    command = ["bash", "-c", script, "sh", str(given), sys.executable, "-c", _PASSED, str(path), pid, count, listen]
    pass_fds = (given,) if given >= 0 else ()
    done = subprocess.run(command, pass_fds=pass_fds, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_systemds_socket_is_taken_and_its_file_stays(tmp_path: Path) -> None:
    """`fd://` serves descriptor 3 and leaves the path to systemd, who made it."""
    path = tmp_path / "c.sock"
    with listener(path) as passed:
        assert _passed(path, passed.fileno()) == "x"
        assert list(tmp_path.iterdir()) == [path]


def test_systemds_socket_is_taken_for_its_own_path(tmp_path: Path) -> None:
    """One unit does with and without a socket unit: what was passed is taken for the path that `listen` names."""
    path = tmp_path / "c.sock"
    (tmp_path / "run").symlink_to(tmp_path)
    with listener(path) as passed:
        assert _passed(path, passed.fileno(), listen=f"unix://{path}") == "x"
        assert _passed(path, passed.fileno(), listen=f"unix://{tmp_path}/run/c.sock") == "x"
        told = _passed(path, passed.fileno(), listen=f"unix://{tmp_path}/other.sock")
        assert str(path) in told
        assert f"listen names {tmp_path}/other.sock" in told
        assert sorted(tmp_path.iterdir()) == [path, tmp_path / "run"]


def test_what_systemd_did_not_pass(tmp_path: Path) -> None:
    """Another process's, several, none, closed, no socket, no unix socket: a ConfigurationError each."""
    path = tmp_path / "c.sock"
    with listener(path) as passed, socket.socket(socket.AF_INET) as other, (tmp_path / "file").open("w") as file:
        for pid, count in (("other", "1"), ("mine", "2"), ("mine", "0"), ("mine", ""), ("mine", "x")):
            assert "exactly one socket" in _passed(path, passed.fileno(), pid=pid, count=count)
        assert "no unix stream socket" in _passed(path, other.fileno())
        assert "fd 3" in _passed(path, file.fileno())
        assert "fd 3" in _passed(path, -1)


async def test_the_server_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    """Whoever bound a socket removes it: asyncio, from Python 3.13 on, would take systemd's away at our end."""
    path = tmp_path / "c.sock"
    with await asyncio.to_thread(listener, path) as passed:
        passed.setblocking(False)
        server = Server([], _Quiet(), LimitSettings())
        server.start(passed)
        server.stop_accepting()
        await server.finish(0)
        assert path in await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


class _Quiet:
    reads_headers: frozenset[bytes] = frozenset()

    def began(self, operation: str, path: str, header: Callable[[str], str]) -> None:
        """Nothing."""

    def ended(self, operation: str, status: Status, error: BaseException | None, seconds: float) -> None:
        """Nothing."""


async def test_a_burst_of_clients_waits_in_the_queue(tmp_path: Path) -> None:
    """Clients that connect while the server is busy wait; asyncio by itself cuts the queue to 100."""
    async with serving(tmp_path) as running:
        with ExitStack() as stack:
            # Without an await: the server has no turn meanwhile.
            for _ in range(min(BACKLOG, 500)):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(running.path))


VERSION = "/runtime.v1.RuntimeService/Version"


@pytest.mark.parametrize("what", ["lock", "folder"])
def test_what_stands_in_the_way_is_named(tmp_path: Path, what: str) -> None:
    """A folder in the lock's place, a file in the folder's: the error has its path."""
    path = tmp_path / "run" / "c.sock"
    if what == "lock":
        path.with_name("c.sock.lock").mkdir(parents=True)
    else:
        path.parent.touch()
    named = path.with_name("c.sock.lock") if what == "lock" else path.parent
    with pytest.raises(ConfigurationError, match=re.escape(f": {'its lock ' if what == 'lock' else ''}{named}: ")):
        BoundSocket.open(f"unix://{path}")


async def test_the_kernel_takes_a_list_of_ten_thousand_images_at_once(tmp_path: Path) -> None:
    """What it does not take would be copied; whoever may not ask for more gets what all may."""
    allowed = int(Path("/proc/sys/net/core/wmem_max").read_text())  # noqa: ASYNC240
    async with serving(tmp_path) as running:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(running.path))
            await until(lambda: bool(running.server.connections))
            (connection,) = running.server.connections
            connected = connection.connection._transport.get_extra_info("socket")
            size = connected.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size in {2 * SEND_BUFFER, 2 * min(SEND_BUFFER, allowed)}
