"""A registry that sends back all that it got, in plain, base64, URL and JSON escapes; and how to look for it."""

from __future__ import annotations

import base64
import json
import re
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from criimage.foreign_text import DOOR_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Echo", "EchoPair", "echo", "echoes", "traces"]

_HOLD_SECONDS = 60.0
_SHORTEST_WORD = 8
_ACROSS = DOOR_LIMIT // 2


@dataclass(slots=True)
class Echo:
    """A running one. A repository's name may ask for more.

    `redirect` in it sends clients to an address that spells what it got; with `granted` in it the token service grants
    what it got as the token to come with; `across` puts it where a long text is cut, and `fifty` where skopeo cuts what
    is no JSON.

    Attributes:
        challenge: Basic, or Bearer, with a token service that echoes as well.
        address: `HOST:PORT`.
        said: every text that it got which may be a secret.
        held: how many requests with credentials wait, while `gate` is not set.
        gate: they are answered once it is set; it is, at first.
    """

    challenge: str
    address: str = ""
    said: list[str] = field(default_factory=list)
    held: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def got(self, secret: str) -> bool:
        """Tell whether it was sent a secret."""
        return any(secret in text for text in self.said)


@dataclass(frozen=True, slots=True)
class EchoPair:
    """One of each challenge."""

    basic: Echo
    bearer: Echo


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    echo: Echo


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            return
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        said = list(_secrets_in(self.headers.get("Authorization", ""), body.decode()))
        if not said:
            self._send(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]})
            return
        echo = self.server.echo
        echo.said += said
        echo.held += 1
        echo.gate.wait(_HOLD_SECONDS)
        if self.path.startswith("/token") and ("granted" in self.path or b"granted" in body):
            self._send(200, {"token": said[-1], "access_token": said[-1], "expires_in": 300})
            return
        words = [spelling for text in said for spelling in _spellings(text)]
        if "redirect" in self.path or b"redirect" in body:
            # Nobody listens there, and the client tells which address it could not reach.
            place = "/".join(quote(word, safe="") for word in words)
            query = f"token={quote(said[-1])}&you={quote(said[0])}"
            self._send(307, {}, f"http://127.0.0.1:1/{place}?{query}")
            return
        if "fifty" in self.path or b"fifty" in body:
            self._send_text(418, "It is no teapot; you said ".ljust(35, ".") + said[-1])
            return
        text = " ".join(words[::-1])
        if "across" in self.path or b"across" in body:
            # Whatever is put before it, the cut is in one of them; of spaces only one is left in the end.
            text, words = " " * (_ACROSS - 300) + f"{said[-1]} " * 20 + " " * _ACROSS, []
        self._send(418, {"errors": [{"code": "TEAPOT", "message": text, "detail": {"got": words}}], "details": text})

    def _send(self, status: int, document: object, location: str = "") -> None:
        self._send_text(status, json.dumps(document), "application/json", location)

    def _send_text(self, status: int, text: str, kind: str = "text/plain", location: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if status == 401:
            realm = "echo" if self.server.echo.challenge == "Basic" else f"http://{self.server.echo.address}/token"
            self.send_header("WWW-Authenticate", f'{self.server.echo.challenge} realm="{realm}",service="echo"')
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401
        pass


def _secrets_in(header: str, form: str) -> Iterator[str]:
    """Yield what came, the header as it was first."""
    if header:
        yield header
        scheme, _, value = header.partition(" ")
        yield value
        if scheme == "Basic":
            pair = base64.b64decode(value).decode("utf-8", "replace")
            yield pair
            yield pair.partition(":")[2]
    for key in ("refresh_token", "password"):
        yield from parse_qs(form).get(key, [])


def _spellings(text: str) -> Iterator[str]:
    yield text
    yield quote(text, safe="")
    yield json.dumps(text)[1:-1]
    yield base64.b64encode(text.encode()).decode()
    yield base64.urlsafe_b64encode(f"Authorization: {text}!".encode()).decode()


@contextmanager
def echo(challenge: str = "Basic") -> Iterator[Echo]:
    """Run one until the block is left."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.echo = made = Echo(challenge, f"127.0.0.1:{server.server_port}")
    made.gate.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        made.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def echoes() -> Iterator[EchoPair]:
    """Run one of each challenge."""
    with ExitStack() as stack:
        yield EchoPair(stack.enter_context(echo("Basic")), stack.enter_context(echo("Bearer")))


def traces(secret: str) -> re.Pattern[bytes]:
    """Return what finds a secret, or one of its words, in plain, in any escape that leaves letters alone, in base64.

    Args:
        secret: whose words of eight letters and more occur nowhere else.
    """
    found = set()
    for word in re.findall(f"[A-Za-z0-9]{{{_SHORTEST_WORD},}}", secret):
        exact = word.encode()
        found.add(exact)
        for before, lost in ((0, 0), (1, 2), (2, 3)):
            padded = bytes(before) + exact
            kept = padded[: len(padded) - len(padded) % 3]
            found.add(base64.b64encode(kept)[lost:])
    assert found, "a secret has a word that can be looked for"
    return re.compile(b"|".join(re.escape(each) for each in sorted(found)))
