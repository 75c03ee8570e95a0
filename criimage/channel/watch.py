"""When to ask a silent peer whether it is still there, and what its silence then means.

A PING costs a peer nothing, but gRPC servers hang up on clients that send too many: grpc-go 1.8x takes one after every
answer it sends, two more, and then one every five minutes (http2_server.go, handlePing). Nobody is asked while no call
waits.
"""

from __future__ import annotations

__all__ = ["INTERVAL", "PingWatch"]

INTERVAL = 5.0
"""Seconds of silence, while a call waits, until the peer is asked."""

ANSWER_SECONDS = 10.0
"""How long a PING may stay unanswered until that is told."""

_AT_ONCE = 3
_RARELY = 310.0


class PingWatch:
    """The state of one connection; times are of any clock that only goes forward.

    Args:
        now: when the connection began.

    Attributes:
        silent: whether a PING has been unanswered for too long.
    """

    def __init__(self, now: float) -> None:
        self.silent = False
        self._heard = now
        self._asked: float | None = None
        self._last_asked = now
        self._since_answer = 0

    def heard(self, now: float, *, answer: bool) -> bool:
        """Note that bytes came; return whether that ends a silence.

        Args:
            now: the time.
            answer: whether a piece of a call's answer was among them.
        """
        self._heard = now
        self._asked = None
        if answer:
            self._since_answer = 0
        ended, self.silent = self.silent, False
        return ended

    def tick(self, now: float, *, waiting: bool) -> tuple[bool, bool]:
        """Return (whether to send a PING now, whether a silence has just become too long)."""
        if self._asked is not None:
            began = not self.silent and now - self._asked >= ANSWER_SECONDS
            self.silent = self.silent or began
            return False, began
        allowed = self._since_answer < _AT_ONCE or now - self._last_asked >= _RARELY
        if not (waiting and allowed and now - self._heard >= INTERVAL):
            return False, False
        self._asked = self._last_asked = now
        self._since_answer += 1
        return True, False
