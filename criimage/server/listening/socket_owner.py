"""Who owns the socket: user and group by name or number."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING, NamedTuple

from criimage.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.settings import SocketSettings

__all__ = ["NOBODY_ELSE", "SocketOwner", "group_of", "is_id", "owner_of", "user_of"]

_ID_LIMIT = 2**32 - 2
_ID_DIGITS = len(str(_ID_LIMIT))


class SocketOwner(NamedTuple):
    """Numbers of user and group; -1 leaves what the process makes."""

    user: int = -1
    group: int = -1

    def take(self, path: Path) -> None:
        """Give `path` to them.

        Raises:
            OSError: the process may not.
        """
        if self != NOBODY_ELSE:
            os.chown(path, self.user, self.group, follow_symlinks=False)


NOBODY_ELSE = SocketOwner()
"""The user and the group of the process."""


def owner_of(settings: SocketSettings) -> SocketOwner:
    """Look up the names of `[socket]`.

    Raises:
        ConfigurationError: this machine has no such user or group.
    """
    return SocketOwner(user_of(settings), group_of(settings))


def user_of(settings: SocketSettings) -> int:
    """Look up `owner`; -1 if it is empty.

    Raises:
        ConfigurationError: this machine has no such user.
    """
    text = settings.owner
    if not text or is_id(text):
        return int(text or -1)
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"no user {text!r} is on this machine", ("socket", "owner")) from error


def group_of(settings: SocketSettings) -> int:
    """Look up `group`; -1 if it is empty.

    Raises:
        ConfigurationError: this machine has no such group.
    """
    text = settings.group
    if not text or is_id(text):
        return int(text or -1)
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"no group {text!r} is on this machine", ("socket", "group")) from error


def is_id(text: str) -> bool:
    """Tell whether this is the number of a user or a group."""
    return text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS and int(text) <= _ID_LIMIT
