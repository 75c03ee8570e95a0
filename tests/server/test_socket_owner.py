"""Who owns the socket: `[socket]`."""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from typing import TYPE_CHECKING

import pytest

from criimage.errors import ConfigurationError
from criimage.server.listening.socket import BoundSocket, hindrance
from criimage.server.listening.socket_owner import SocketOwner, owner_of
from criimage.settings import SocketSettings
from parts.missing import need_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65534


def test_the_socket_belongs_to_whom_it_is_given(tmp_path: Path) -> None:
    """`[socket]`: owner and group of the socket and of a folder made for it, also when bound again; mode 0660."""
    need_root()
    path = tmp_path / "made" / "c.sock"
    owner = owner_of(SocketSettings(owner="nobody", group="12345"))
    nobody = pwd.getpwnam("nobody").pw_uid
    with BoundSocket.open(f"unix://{path}", owner) as bound:
        for made in (path, path.parent):
            assert (made.stat().st_uid, made.stat().st_gid) == (nobody, 12345)
        path.unlink()
        before = bound.check()
        assert before is not None
        before.close()
        assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (nobody, 12345, 0o660)
    with BoundSocket.open(f"unix://{path}") as bound:
        assert path.stat().st_uid == os.getuid()


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be another user than root for a while."""
    need_root()
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def test_what_keeps_a_user_from_making_the_socket_is_known_before() -> None:
    """`config check` notes it (issue 14, A3): a folder that is not the user's, and an owner that only root can give."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        listen = f"unix://{folder}/made/s"
        for owner in (SocketOwner(), SocketOwner(0, 0)):
            assert hindrance(listen, owner) == ""
        with nobody():
            assert hindrance(listen, SocketOwner()) == f"{folder} is not writable"
            assert hindrance("fd://", SocketOwner(0, 0)) == ""
        os.chown(folder, NOBODY, -1)
        with nobody():
            for mine in (SocketOwner(), SocketOwner(NOBODY, NOBODY)):
                assert hindrance(listen, mine) == ""
            assert hindrance(listen, SocketOwner(0)) == "only root can give it to another user"
            assert hindrance(listen, SocketOwner(-1, 0)) == "it can be given to a group of this user only"


def test_owners_that_are_not_there_are_told() -> None:
    """A name or a number that cannot be is told with its key."""
    for text in ("no-such-user", "4294967295", "0" * 11 + "4294967295", "a\0b"):
        with pytest.raises(ConfigurationError) as owner:
            owner_of(SocketSettings(owner=text))
        with pytest.raises(ConfigurationError) as group:
            owner_of(SocketSettings(group=text))
        assert (owner.value.setting, group.value.setting) == (("socket", "owner"), ("socket", "group"))
