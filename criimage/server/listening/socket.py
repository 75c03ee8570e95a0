"""The unix socket that we listen on: bound by us, because asyncio takes over a path that another server still uses."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Self

from criimage.endpoint import PASSED_SOCKET, socket_path
from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile, is_folder, unfit_place
from criimage.server.listening.socket_owner import NOBODY_ELSE, SocketOwner

__all__ = ["BACKLOG", "BoundSocket", "check_place", "hindrance", "is_served"]

SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o750
BACKLOG = 1024
"""How many clients may wait to be accepted; those beyond are refused."""

_FIRST_PASSED_FD = 3
_PROBE_SECONDS = 2.0


class BoundSocket:
    """A listening socket, and the clean end of it; a context manager.

    Attributes:
        socket: bound and listening, ready for asyncio.
        endpoint: what clients connect to, for messages.
    """

    def __init__(
        self,
        listening: socket.socket,
        endpoint: str,
        path: Path | None = None,
        lock: int = -1,
        owner: SocketOwner = NOBODY_ELSE,
    ) -> None:
        self.socket = listening
        self.endpoint = endpoint
        self._path = path
        self._owner = owner
        self._passed_path = None if path else _passed_path(listening)
        self._lock = lock
        watched = path or self._passed_path
        self._identity = _identity(watched) if watched else None

    @classmethod
    def open(cls, listen: str, owner: SocketOwner = NOBODY_ELSE) -> Self:
        """Bind `unix:///path`, or take over systemd's socket for `fd://`.

        A socket that systemd has passed for this very path is taken over too, so that one unit does for both ways.

        A stale file is removed; a path that another process serves is never taken over, not even when two start at
        once: a lock file beside the socket decides. The directory is created, the socket has mode 0660,
        and both belong to `owner`; a directory that is there and systemd's socket stay as they are.

        Raises:
            ConfigurationError: the endpoint cannot be used; nothing of another process was touched.
        """
        if listen == PASSED_SOCKET:
            return cls(_passed_socket(), listen)
        path = socket_path(listen)
        if not path.name:
            raise ConfigurationError(f"cannot listen on {path}: it is a directory")
        if _was_passed():
            return cls(_passed_for(path), f"unix://{path}")
        lock = _locked_in_folder(path, owner)
        try:
            _remove_stale(path)
            return cls(_bound(path, owner), f"unix://{path}", path, lock, owner)
        except BaseException as error:
            _unlock(path, lock)
            if isinstance(error, OSError):
                raise ConfigurationError(f"cannot listen on {path}: {error.strerror}") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> socket.socket | None:
        """See whether clients still find the socket, and bind it again where its file is gone and the path still ours.

        Blocks for moments.

        Returns:
            the socket before, for the caller to close, if `socket` is another one now.

        Raises:
            ConfigurationError: clients do not find it, and nothing can be done about that here: systemd made it, or the
                path or its lock is somebody else's now.
        """
        path = self._path or self._passed_path
        if path is None or (found := _identity(path)) == self._identity:
            return None
        if self._path is None:
            raise ConfigurationError(f"the socket {path} that systemd passed is gone: clients cannot find it")
        if found is not None:
            raise ConfigurationError(f"another file is at {path}: clients do not reach this service")
        self._lock_again(path)
        try:
            again = _bound(path, self._owner)
        except OSError as error:
            raise ConfigurationError(f"{path} is gone and cannot be bound again: {error.strerror}") from error
        before, self.socket, self._identity = self.socket, again, _identity(path)
        return before

    def _lock_again(self, path: Path) -> None:
        if _holds(path, self._lock):
            return
        # The lock's file is gone too: whoever makes it first owns the path.
        lock = _locked_in_folder(path, self._owner)
        os.close(self._lock)
        self._lock = lock

    def close(self) -> None:
        """Close the socket and remove its file, unless somebody has put another one there."""
        self.socket.close()
        if self._path is not None and _identity(self._path) in (self._identity, None):
            self._path.unlink(missing_ok=True)
        if self._path is not None:
            _unlock(self._path, self._lock)
            self._path = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _holds(path: Path, lock: int) -> bool:
    held = os.fstat(lock)
    return _identity(_lock_path(path)) == (held.st_dev, held.st_ino)


def check_place(listen: str) -> None:
    """See whether a socket can be where `listen` names it; nothing is made. Blocks for moments.

    Who may make it there is not asked: whoever asks may be another user than the service has.

    Raises:
        ConfigurationError: another file is there, or on the way to it, or nobody can make one there.
    """
    if listen == PASSED_SOCKET:
        return
    path = socket_path(listen)
    for place in (path, *path.parents):
        try:
            mode = (place.lstat() if place is path else place.stat()).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return
        if place is path and not stat.S_ISSOCK(mode):
            raise ConfigurationError(f"{path} exists and is no socket", ("listen",))
        if place is not path and not stat.S_ISDIR(mode):
            raise ConfigurationError(f"cannot listen on {path}: {place} is no folder", ("listen",))
        if reason := unfit_place(place):
            raise ConfigurationError(f"cannot listen on {path}: {reason}", ("listen",))
        return


def hindrance(listen: str, owner: SocketOwner) -> str:
    """Return what keeps the user of this process from making the socket; empty if nothing does. Blocks for moments."""
    if listen == PASSED_SOCKET or os.geteuid() == 0:
        return ""
    for place in socket_path(listen).parents:
        try:
            there = is_folder(place)
        except UnreadableFile:
            # The folder above it, which may not be searched, is told.
            continue
        if there:
            if not os.access(place, os.W_OK | os.X_OK):
                return f"{place} is not writable"
            break
    if owner.user not in {-1, os.geteuid()}:
        return "only root can give it to another user"
    if owner.group not in {-1, os.getegid(), *os.getgroups()}:
        return "it can be given to a group of this user only"
    return ""


def is_served(listen: str) -> bool:
    """Tell whether somebody may listen at `listen`: not, only if nobody can. Blocks for moments."""
    if listen == PASSED_SOCKET:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(socket_path(listen)))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except OSError:
            return True
    return True


def _locked_in_folder(path: Path, owner: SocketOwner) -> int:
    try:
        if not is_folder(path.parent):
            path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            owner.take(path.parent)
    except UnreadableFile as error:
        raise ConfigurationError(f"cannot listen on {path}: {error.text}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {path}: {error.filename}: {error.strerror}") from error
    try:
        return _locked(path)
    except OSError as error:
        text = f"cannot listen on {path}: its lock {_lock_path(path)}: {error.strerror}"
        raise ConfigurationError(text) from error


def _locked(path: Path) -> int:
    lock_path = _lock_path(path)
    while True:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigurationError(f"{path} is in use by another criimage, which holds {lock_path}") from None
        if _holds(path, lock):
            return lock
        os.close(lock)  # its owner has just removed it: we hold a lock that nobody else would see


def _unlock(path: Path, lock: int) -> None:
    if _holds(path, lock):
        with contextlib.suppress(OSError):
            _lock_path(path).unlink()
    os.close(lock)


def _remove_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigurationError(f"{path} exists and is no socket; it was left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            # A full backlog (EAGAIN, a time-out) means that somebody is listening.
            if error.errno not in (errno.EAGAIN, None):
                raise
    raise ConfigurationError(f"{path} is in use by another process")


def _bound(path: Path, owner: SocketOwner) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.bind(str(path))
        # Nobody can connect before it listens, so nobody sees it with another owner or mode.
        owner.take(path)
        path.chmod(SOCKET_MODE)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _passed_path(listening: socket.socket) -> Path | None:
    name = listening.getsockname()
    return Path(name) if isinstance(name, str) and name.startswith("/") else None


def _was_passed() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "") == "1"


def _passed_for(path: Path) -> socket.socket:
    passed = _passed_socket()
    found = _passed_path(passed)
    if found is None or found.resolve() != path.resolve():
        passed.detach()
        raise ConfigurationError(f"systemd passed the socket {found}, and listen names {path}; fd:// takes any")
    return passed


def _passed_socket() -> socket.socket:
    if not _was_passed():
        raise ConfigurationError("fd:// needs exactly one socket passed by systemd (LISTEN_PID and LISTEN_FDS)")
    try:
        os.set_inheritable(_FIRST_PASSED_FD, False)
        listening = socket.socket(fileno=_FIRST_PASSED_FD)
    except OSError as error:
        raise ConfigurationError(f"fd 3, which systemd should have passed, is no socket: {error.strerror}") from error
    if listening.family != socket.AF_UNIX or listening.type != socket.SOCK_STREAM:
        listening.detach()
        raise ConfigurationError("the socket passed by systemd is no unix stream socket")
    listening.setblocking(False)
    return listening
