"""A registry that sends back all that it got, in every spelling: nobody who did not have a secret gets to see it."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import structlog

from containers_storage.opened import opened
from criimage import errors
from criimage.credentials import Credentials
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

SECRET = 'cor/rect+horse "b&tt<ery'  # noqa: S105 - of nobody


class Echo(BaseHTTPRequestHandler):
    """Wants credentials, and answers whoever has some with an error that spells them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer any question."""
        header = self.headers.get("Authorization", "")
        if not header:
            self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]})
            return
        decoded = base64.b64decode(header.partition(" ")[2]).decode()
        said = [header, decoded, decoded.partition(":")[2]]
        said += [spelling for text in said for spelling in (quote(text, safe=""), json.dumps(text)[1:-1])]
        said.append(base64.b64encode(f"Authorization: {decoded}".encode()).decode())
        self.server.said.append(header)  # type: ignore[attr-defined]
        self.answer(418, {"errors": [{"code": "TEAPOT", "message": " ".join(said[::-1])}]})

    def answer(self, status: int, document: object) -> None:
        """Send JSON."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="echo"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401
        """Say nothing."""


@contextmanager
def echo() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of such a registry, and the headers that it got."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.said = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", server.said  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shows(text: str) -> bool:
    """Tell whether `text` has the secret in it, in one of the spellings or a part of it."""
    pair = base64.b64encode(f"bob:{SECRET}".encode()).decode()
    return any(part in text for part in ("horse", "rect", "ttery", pair[:12], pair[8:20], quote(SECRET, safe="")[:12]))


@pytest.mark.parametrize("whose", ["the request's", "the machine's"])
async def test_what_a_registry_sends_back_is_masked(tmp_path: Path, whose: str) -> None:
    """Issue 8, item 5: the caller's credentials, and the machine's, of which a caller without any knows nothing."""
    with echo() as (address, got), store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        auth = base64.b64encode(f"bob:{SECRET}".encode()).decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
        ours = Credentials("bob", SECRET) if whose == "the request's" else None
        with structlog.testing.capture_logs() as logged:
            async with opened(local, auth_file=str(tmp_path / "auth.json")) as under_test:
                with pytest.raises(errors.CriimageError) as caught:
                    await under_test.pull(f"{address}/team/app:1", ours)
        assert got, "the registry was never asked with credentials"
        assert base64.b64decode(got[0].partition(" ")[2]).decode() == f"bob:{SECRET}"
        assert "…" in caught.value.text
        for text in (caught.value.text, repr(caught.value), json.dumps(logged, default=repr)):
            assert not shows(text), text
        assert [
            file for file in local.folder.rglob("*") if file.is_file() and shows(file.read_text("utf-8", "replace"))
        ] == []
