"""The HTTP half of `criimage.testing.scripted_registry`: a thread for each connection, which does as scripts say."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import select
import socket
import ssl
import sys
import threading
import urllib.parse
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from criimage.testing.scripted_acts import Answer, Auth, Change, Close, End, Hang, Request, Stage, Trickle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage.testing.certificates import Certificates
    from criimage.testing.scripted_hub import Script, ScriptedRegistry

__all__ = ["serving"]

_PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_RANGE = re.compile(r"bytes=(\d+)-")
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class _Reply:
    """An answer as it should be, before a script changes it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _GoneError(Exception):
    """The client has closed the connection."""


@contextlib.contextmanager
def serving(hub: ScriptedRegistry, certificates: Certificates | None) -> Iterator[int]:
    """Serve a registry on a port of 127.0.0.1 until the block is left, and end every connection then."""
    server = _Server(hub, certificates)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="scripted registry")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        hub.release()
        server.hang_up()
        server.server_close()  # waits for the connections' threads


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 1024

    def __init__(self, hub: ScriptedRegistry, certificates: Certificates | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.scheme = "https" if certificates else "http"
        self.tokens: dict[str, str] = {}
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        if certificates is not None:
            # The handshake is left to the connection's own thread: a client that never begins it blocks nobody.
            context = certificates.server_context()
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class has it
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as the base class has it
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class has it
        # Clients that go away are what this is for; anything else is a fault to be seen.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """End every connection; their threads notice."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # What is no HTTP gets an answer that is: containerd begins with TLS, and goes on without only after such a one.
    default_request_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._take()

    def do_HEAD(self) -> None:
        self._take()

    def do_POST(self) -> None:
        # Some clients ask for a token so first, and by GET where that is not allowed.
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        pass

    @property
    def _hub(self) -> ScriptedRegistry:
        return self.server.hub

    def _take(self) -> None:
        request = self._read()
        script = self._hub.begin(request)
        try:
            closed = self._answer(request, script)
        except (_GoneError, OSError):
            self.close_connection = True
            self._hub.note(request, end=End.CUT)
        else:
            self._hub.note(request, end=End.CLOSED if closed else End.COMPLETE)

    def _read(self) -> Request:
        url = urllib.parse.urlsplit(self.path)
        request = Request(self.command, self.path, Stage.OTHER, user=self._user())
        if url.path in {"/v2", "/v2/"}:
            request.stage = Stage.PING
        elif url.path == "/token":
            request.stage = Stage.TOKEN
            scope = urllib.parse.parse_qs(url.query).get("scope", [""])[0]
            request.repository = scope.removeprefix("repository:").partition(":")[0]
        elif found := _PATH.fullmatch(url.path):
            request.repository, request.reference = found["repository"], urllib.parse.unquote(found["reference"])
            layer = (Stage.LAYER, b"")
            blob = self._hub.blobs.get(request.reference, layer)[0]
            request.stage = Stage.MANIFEST if found["kind"] == "manifests" else blob
        return request

    def _answer(self, request: Request, script: Script | None) -> bool:
        """Answer a request; True if the connection was closed on purpose."""
        match script.act if script else None:
            case Hang(after=None):
                assert script is not None  # noqa: S101 - for the type checker
                self._hub.note(request, script=script)
                self._stand(script, None)
            case Close(after=None):
                self._hub.note(request, script=script)
                self.close_connection = True
                return True
            case Answer(status=status, body=body, headers=headers):
                self._hub.note(request, script=script)
                self._send(request, _Reply(status, {"Content-Type": "text/html", **headers}, body), None)
                return False
            case _:
                return self._send(request, self._reply(request), script)
        self._send(request, self._reply(request), None)
        return False

    def _send(self, request: Request, reply: _Reply, script: Script | None) -> bool:
        body = reply.body
        act = script.act if script and reply.status < HTTPStatus.BAD_REQUEST else None
        if isinstance(act, Change):
            self._hub.note(request, script=script)
            body = act.change(body)
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        bare = self.command == "HEAD" or not body
        # Noted first, so that a client that has the answer finds it complete in the record.
        self._hub.note(request, status=int(reply.status), end=End.COMPLETE if bare else End.OPEN)
        self.end_headers()
        if bare:
            return False
        match act:
            case Close(after=int() as after):
                self._write(request, body[:after])
                self._hub.note(request, script=script)
                self.close_connection = True
                return True
            case Hang(after=int() as after):
                assert script is not None  # noqa: S101 - for the type checker
                self._write(request, body[:after])
                self._hub.note(request, script=script)
                self._stand(script, None)
                body = body[after:]
            case Trickle(size=size, seconds=seconds):
                assert script is not None  # noqa: S101 - for the type checker
                self._hub.note(request, script=script)
                while len(body) > size:
                    self._write(request, body[:size])
                    body = body[size:]
                    if self._stand(script, seconds):
                        break
        self._write(request, body, last=True)
        return False

    def _write(self, request: Request, data: bytes, *, last: bool = False) -> None:
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            if last and start + _CHUNK >= len(data):
                self._hub.note(request, sent=len(chunk), end=End.COMPLETE)
                self.wfile.write(chunk)
            else:
                self.wfile.write(chunk)
                self._hub.note(request, sent=len(chunk))

    def _stand(self, script: Script, seconds: float | None) -> bool:
        """Wait for the script's release, or so many seconds; True if it was released.

        Raises:
            _GoneError: the client has closed the connection meanwhile.
        """
        waiting = select.poll()
        waiting.register(script.released, select.POLLIN)
        waiting.register(self.connection, select.POLLIN | select.POLLRDHUP)
        events = waiting.poll(None if seconds is None else seconds * 1000)
        ready = {number for number, _ in events}
        # In TLS a client has something to say in the middle of an answer only when it goes; in plain HTTP one may look.
        if self.connection.fileno() in ready and self._is_gone():
            raise _GoneError
        return script.released in ready

    def _is_gone(self) -> bool:
        if isinstance(self.connection, ssl.SSLSocket):
            return True
        return not self.connection.recv(1, socket.MSG_PEEK)

    def _reply(self, request: Request) -> _Reply:
        if request.stage is Stage.TOKEN:
            return self._token(request)
        if not self._may_in(request):
            return self._refused()
        if request.stage is Stage.PING:
            return _json_reply(HTTPStatus.OK, {})
        if request.stage is Stage.MANIFEST:
            manifest = self._hub.manifests.get(request.repository, {}).get(request.reference)
            if manifest is None:
                return _error(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown")
            headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
            return _Reply(HTTPStatus.OK, headers, manifest.data)
        blob = self._hub.blobs.get(request.reference)
        if blob is None:
            return _error(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": request.reference}
        data = blob[1]
        wanted = _RANGE.match(self.headers.get("Range", ""))
        if wanted and 0 < (start := int(wanted[1])) < len(data):
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return _Reply(HTTPStatus.PARTIAL_CONTENT, headers, data[start:])
        return _Reply(HTTPStatus.OK, headers, data)

    def _credentials(self) -> tuple[str, str]:
        """Kind and content of the Authorization header."""
        kind, _, content = self.headers.get("Authorization", "").partition(" ")
        return kind.lower(), content.strip()

    def _account(self) -> tuple[str, str]:
        kind, content = self._credentials()
        if kind != "basic":
            return "", ""
        name, _, password = base64.b64decode(content).decode("utf-8", "replace").partition(":")
        return name, password

    def _user(self) -> str:
        kind, content = self._credentials()
        return self.server.tokens.get(content, "") if kind == "bearer" else self._account()[0]

    def _may_in(self, request: Request) -> bool:
        if self._hub.auth is Auth.NONE:
            return True
        kind, content = self._credentials()
        if self._hub.auth is Auth.BEARER:
            return kind == "bearer" and content in self.server.tokens
        name, password = self._account()
        return bool(request.user) and self._hub.accounts.get(name) == password

    def _token(self, request: Request) -> _Reply:
        name, password = self._account()
        if self._hub.accounts and self._hub.accounts.get(name) != password:
            return _error(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
        token = secrets.token_hex(16)
        self.server.tokens[token] = name
        return _json_reply(HTTPStatus.OK, {"token": token, "access_token": token, "expires_in": 300})

    def _refused(self) -> _Reply:
        challenge = 'Basic realm="scripted"'
        if self._hub.auth is Auth.BEARER:
            realm = f"{self.server.scheme}://{self._hub.address}/token"
            challenge = f'Bearer realm="{realm}",service="scripted"'
        reply = _error(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
        return _Reply(reply.status, {**reply.headers, "WWW-Authenticate": challenge}, reply.body)


def _json_reply(status: int, document: object) -> _Reply:
    version = {"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"}
    return _Reply(status, version, json.dumps(document).encode())


def _error(status: int, code: str, message: str) -> _Reply:
    return _json_reply(status, {"errors": [{"code": code, "message": message, "detail": {}}]})
