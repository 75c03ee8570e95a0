"""Which users may make calls: `[socket] allowed_users`, on top of what the socket's mode lets through."""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage.errors import ConfigurationError
from criimage.server.listening.socket_owner import is_id

if TYPE_CHECKING:
    from criimage.peer import Peer
    from criimage.settings import SocketSettings

__all__ = ["EVERYBODY", "Access", "access_of"]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may make calls.

    Attributes:
        users: their numbers; None for whoever can open the socket.
    """

    users: frozenset[int] | None = None

    def refusal(self, peer: Peer | None) -> str:
        """Return what a peer is told that may make no calls; the empty text for one that may."""
        if self.users is None or (peer is not None and peer.uid in self.users):
            return ""
        who = "a process whose user the kernel does not tell" if peer is None else f"the user with uid {peer.uid}"
        return f"{who} may not use this image service: its setting socket.allowed_users names others"


EVERYBODY = Access()


def access_of(settings: SocketSettings) -> Access:
    """Look up the names of `[socket] allowed_users`.

    Raises:
        ConfigurationError: this machine has no such user; a line for each.
    """
    if not settings.allowed_users:
        return EVERYBODY
    found = {user: _number(user) for user in settings.allowed_users}
    unknown = [f"no user {str(user)!r} is on this machine" for user, number in found.items() if number is None]
    if unknown:
        raise ConfigurationError("\n".join(unknown), ("socket", "allowed_users"))
    return Access(frozenset(number for number in found.values() if number is not None))


def _number(user: str | int) -> int | None:
    if is_id(str(user)):
        return int(user)
    try:
        return pwd.getpwnam(str(user)).pw_uid
    except (KeyError, ValueError):
        return None
