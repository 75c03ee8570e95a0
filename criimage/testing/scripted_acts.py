"""What a scripted registry can do to a request, and what it keeps of one (criimage.testing.scripted_registry)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Act",
    "Answer",
    "Auth",
    "Change",
    "Close",
    "End",
    "Hang",
    "Request",
    "Stage",
    "Trickle",
    "corrupted",
    "truncated",
]


class Stage(enum.Enum):
    """What a client asks for."""

    PING = "ping"
    TOKEN = "token"  # noqa: S105 - no secret
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    OTHER = "other"


class End(enum.Enum):
    """How an answer ended."""

    OPEN = "open"
    COMPLETE = "complete"
    CUT = "cut"
    """The client went away before it had everything."""
    CLOSED = "closed"
    """We closed the connection, as a script says."""


@dataclass(slots=True, eq=False)
class Request:
    """One request.

    Attributes:
        method: `GET` or `HEAD`.
        path: with its query.
        stage: what is asked for.
        repository: of the manifest or blob, or the token's scope.
        reference: tag or digest.
        user: whose credentials came with it, empty for nobody's.
        number: from 1 on.
        status: of HTTP, 0 before there is one.
        sent: bytes of the body.
        end: see End.
    """

    method: str
    path: str
    stage: Stage
    repository: str = ""
    reference: str = ""
    user: str = ""
    number: int = 0
    status: int = 0
    sent: int = 0
    end: End = End.OPEN


@dataclass(frozen=True, slots=True)
class Hang:
    """Stop until the script is released, then go on as if nothing had been.

    Attributes:
        after: bytes of the body that are sent first; None stops before the status line.
    """

    after: int | None = None


@dataclass(frozen=True, slots=True)
class Trickle:
    """Send the body slowly, until the script is released.

    Attributes:
        size: bytes at once.
        seconds: between them.
    """

    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer something else.

    Attributes:
        status: of HTTP.
        body: in place of the real one.
        headers: besides Content-Length; a Content-Type of HTML unless given.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection.

    Attributes:
        after: bytes of the body that are sent first, behind headers that promise all of it; None before any answer.
    """

    after: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Send another body with headers that fit it, but with the digest of the real one."""

    change: Callable[[bytes], bytes]


Act = Hang | Trickle | Answer | Close | Change
"""What a script can do."""


def corrupted(data: bytes) -> bytes:
    """Return as many bytes, others from the middle on."""
    half = len(data) // 2
    return data[:half] + bytes(255 - byte for byte in data[half : half + 64]) + data[half + 64 :]


def truncated(data: bytes) -> bytes:
    """Return the first half."""
    return data[: len(data) // 2]


class Auth(enum.Enum):
    """What the registry asks of everyone."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    """A token from its own `/token`; for anybody where the registry has no accounts."""
