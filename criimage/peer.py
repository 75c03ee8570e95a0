"""Who is at the other end of a connection, as the kernel says it."""

from __future__ import annotations

import socket
import struct
from contextvars import ContextVar
from typing import NamedTuple

__all__ = ["Peer", "Peers", "current_peer", "peer_of"]

_CREDENTIALS = struct.Struct("3i")
_NO_ID = 2**32 - 1
PEERS_NAMED = 8


class Peer(NamedTuple):
    """The process that connected, as it was then (SO_PEERCRED, unix(7)).

    Attributes:
        uid: its effective user, in our user namespace; 65534 for one that has no number here.
        gid: its effective group.
        pid: 0 for a process that our PID namespace does not have.
    """

    uid: int
    gid: int
    pid: int

    def __str__(self) -> str:
        return f"uid={self.uid} gid={self.gid} pid={self.pid}"


def peer_of(connected: socket.socket) -> Peer | None:
    """Return who connected; None where the kernel does not say, as for a socket that is no unix socket."""
    try:
        found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    pid, uid, gid = _CREDENTIALS.unpack(found)
    # The kernel's numbers have no sign; what has no credentials has -1.
    return None if uid == -1 else Peer(uid & _NO_ID, gid & _NO_ID, pid)


current_peer: ContextVar[Peer | None] = ContextVar("peer", default=None)
"""Who made the call that a context belongs to."""


class Peers:
    """Those who asked for one thing, without repetition; only the first few are kept."""

    def __init__(self) -> None:
        self._known: dict[Peer, None] = {}

    def add_current(self) -> None:
        """Add whoever makes the call of this context."""
        peer = current_peer.get()
        if peer is not None and len(self._known) < PEERS_NAMED:
            self._known[peer] = None

    def named(self) -> list[str]:
        """Return them for a line of the log, in the order they came."""
        return [str(peer) for peer in self._known]
