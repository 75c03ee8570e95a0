"""The HTTP/2 frames of a test's raw clients, kept so that a failing test can show them. No secret is shown.

What requests carried is shown only where it can be read as a message, without its AuthConfig and whatever was in
it taken out of every other line; bytes that cannot be read are told by their number.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from criimage.cri.runtime.v1 import PullImageRequest
from criimage.foreign_text import one_line
from criimage.masking import Secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KEPT = 400
"""Lines of all connections together: the last ones are those that a test failed at."""
_READ = 64 * 1024
_SHOWN = 200
_HEADER = 9
_NAMES = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
    "CONTINUATION",
)  # fmt: skip
_RESET, _GOAWAY = 3, 7

_lines: deque[str] = deque(maxlen=_KEPT)
_secrets: list[Secrets] = []
_numbers = itertools.count(1)


@dataclass(slots=True)
class Frames:
    """Notes what one connection sends and gets.

    Attributes:
        number: of the connection, within the test.
    """

    number: int = field(default_factory=lambda: next(_numbers))

    def sent(self, data: bytes) -> None:
        """Bytes that went out."""
        self._note("->", data)

    def got(self, data: bytes) -> None:
        """Bytes of whole frames that came in."""
        self._note("<-", data)

    def headers(self, direction: str, stream: int, headers: Iterable[tuple[object, object]]) -> None:
        """What a block of headers said."""
        told = ", ".join(f"{_text(name)}: {_text(value)}" for name, value in headers)
        self._add(direction, f"stream {stream}: {told[: 4 * _SHOWN]}")

    def message(self, direction: str, stream: int, path: str, body: bytes) -> None:
        """What a request's body said, read as what `path` takes; nothing where there is none."""
        if body:
            self._add(direction, f"stream {stream}: {_request(path, body)}")

    def answer(self, stream: int, data: bytes) -> None:
        """Bytes of an answer."""
        self._add("<-", f"stream {stream}: {data[:_SHOWN]!r}{'...' if len(data) > _SHOWN else ''}")

    def _note(self, direction: str, data: bytes) -> None:
        for kind, flags, stream, payload in _frames(data):
            name = _NAMES[kind] if kind < len(_NAMES) else f"type {kind}"
            code = ""
            if kind == _RESET and len(payload) >= 4:
                code = f", code {int.from_bytes(payload[:4], 'big')}"
            elif kind == _GOAWAY and len(payload) >= 8:
                code = f", last stream {int.from_bytes(payload[:4], 'big')}, code {int.from_bytes(payload[4:8], 'big')}"
            self._add(direction, f"{name} stream {stream}, flags {flags:#04x}, {len(payload)} bytes{code}")

    def _add(self, direction: str, line: str) -> None:
        _lines.append(f"{self.number} {direction} {line}")


def forget() -> None:
    """Begin anew: the next test's frames are its own."""
    global _numbers
    _lines.clear()
    _secrets.clear()
    _numbers = itertools.count(1)


def shown() -> str:
    """The frames noted since the last `forget`, a line each, secrets masked; empty if there were none."""
    secrets = Secrets()
    for one in _secrets:
        secrets |= one
    return "\n".join(one_line(secrets.mask(line)) for line in _lines)


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    data = data.removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    begin = 0
    while len(data) - begin >= _HEADER:
        start = begin + _HEADER
        end = start + int.from_bytes(data[begin : begin + 3], "big")
        stream = int.from_bytes(data[begin + 5 : start], "big") & 0x7FFF_FFFF
        yield data[begin + 3], data[begin + 4], stream, data[start:end]
        begin = end


def _request(path: str, body: bytes) -> str:
    whole = f"{len(body)} bytes"
    if not path.endswith("/PullImage"):
        return f"{whole} for {path}"
    if len(body) > _READ:
        return f"{whole} for {path}, too long to be looked at"
    try:
        request = PullImageRequest().parse(body[5:])
        auth = request.auth
        secrets = Secrets((auth.identity_token, auth.registry_token, auth.auth), [(auth.username, auth.password)])
    except Exception:  # noqa: BLE001 - the library refuses bytes of others in many ways, or makes anything at all of them
        return f"{whole} for {path}, not to be read"
    _secrets.append(secrets)
    # What an attack sends may be parsed into anything at all.
    if not isinstance(getattr(request.image, "image", None), str):
        return f"{whole} for {path}: no image"
    return f"{whole} for {path}: image {request.image.image[:_SHOWN]!r}, {'with' if auth else 'without'} credentials"


def _text(part: object) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)
