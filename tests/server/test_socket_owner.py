"""Who owns the socket: `[socket]`."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from criimage.errors import ConfigurationError
from criimage.server.listening.socket import BoundSocket
from criimage.server.listening.socket_owner import owner_of
from criimage.settings import SocketSettings
from parts.missing import need_root

if TYPE_CHECKING:
    from pathlib import Path


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


def test_owners_that_are_not_there_are_told() -> None:
    """A name or a number that cannot be is told with its key."""
    for text in ("no-such-user", "4294967295", "0" * 11 + "4294967295", "a\0b"):
        with pytest.raises(ConfigurationError) as owner:
            owner_of(SocketSettings(owner=text))
        with pytest.raises(ConfigurationError) as group:
            owner_of(SocketSettings(group=text))
        assert (owner.value.setting, group.value.setting) == (("socket", "owner"), ("socket", "group"))
