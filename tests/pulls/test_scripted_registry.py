"""The registry that misbehaves on demand does so, and knows what became of every request."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from typing import TYPE_CHECKING

import pytest

from criimage.testing.certificates import Certificates
from criimage.testing.oci import Config, image, index, layer, noise_layer
from criimage.testing.registry_client import RegistryClient
from criimage.testing.scripted_registry import (
    Answer,
    Auth,
    Change,
    Close,
    End,
    Hang,
    Stage,
    Trickle,
    corrupted,
    scripted_registry,
    truncated,
)
from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from criimage.testing.scripted_registry import ScriptedRegistry

LAYER = noise_layer(50_000)
SMALL = image(LAYER)
BLOB = f"/v2/app/blobs/{LAYER.digest}"
MANIFEST = "/v2/app/manifests/1"


@contextlib.contextmanager
def connected(hub: ScriptedRegistry) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection(hub.address, timeout=30)) as connection:
        yield connection


def get(hub: ScriptedRegistry, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Asks for a path on a connection of its own."""
    with connected(hub) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_it_serves_images_and_keeps_a_record() -> None:
    """Indexes, images, configs and layers come by tag and digest; each request is told by stage, with its bytes."""
    foreign = image(layer({"x": b"x"}), config=Config(architecture="s390x"))
    both = index(SMALL, foreign)
    with scripted_registry() as hub:
        assert hub.put(both, "team/app", "1", "2") == f"{hub.address}/team/app:1"
        client = RegistryClient(hub.address)
        for name in ("1", "2", both.digest):
            assert client.digest("team/app", name) == both.digest
        assert client.digest("team/app", SMALL.digest) == SMALL.digest
        assert client.digest("team/app", "3") is None
        assert get(hub, "/v2/")[0] == 200
        assert get(hub, BLOB)[2] == LAYER.data
        assert get(hub, BLOB, Range="bytes=100-")[2] == LAYER.data[100:]
        assert get(hub, f"/v2/app/blobs/{SMALL.id}")[2] == SMALL.config.data
        seen = [(one.stage, one.method, one.status, one.end) for one in hub.requests[-4:]]
        assert seen == [
            (Stage.PING, "GET", 200, End.COMPLETE),
            (Stage.LAYER, "GET", 200, End.COMPLETE),
            (Stage.LAYER, "GET", 206, End.COMPLETE),
            (Stage.CONFIG, "GET", 200, End.COMPLETE),
        ]
        assert hub.blob_bytes == 2 * len(LAYER.data) - 100 + len(SMALL.config.data)
        assert len(hub.asked(Stage.LAYER, repository="app")) == 2
        assert hub.asked(Stage.LAYER, repository="other") == ()
        assert hub.open() == ()


def test_a_hang_before_the_answer_and_in_the_middle() -> None:
    """Nothing comes, or so many bytes; after the release the rest does, and later requests are not held."""
    with scripted_registry() as hub:
        hub.put(SMALL, "app", "1")
        hang = hub.script(Stage.MANIFEST, Hang(), repository="app")
        other = hub.script(Stage.LAYER, Hang(after=1000))
        with connected(hub) as one, connected(hub) as two:
            one.request("GET", MANIFEST)
            two.request("GET", BLOB)
            hub.wait(lambda: hang.reached and other.reached)
            assert {request.sent for request in hub.open()} == {0, 1000}
            assert two.getresponse().read(1000) == LAYER.data[:1000]
            hang.release()
            assert one.getresponse().read() == SMALL.manifest.data
            hub.wait(lambda: len(hub.open()) == 1)
            other.release()
            hub.wait(lambda: not hub.open())
        assert get(hub, BLOB)[2] == LAYER.data
        assert hang.reached == other.reached == 1


def test_a_client_that_goes_is_noticed_at_once() -> None:
    """A hanging and a slow answer end as cut off when their client closes the connection."""
    with scripted_registry() as hub:
        hub.put(SMALL, "app", "1")
        for act in (Hang(), Hang(after=10), Trickle(1, 3600.0)):
            script = hub.script(Stage.LAYER, act)
            with connected(hub) as connection:
                connection.request("GET", BLOB)
                hub.wait(lambda script=script: script.reached and hub.open(Stage.LAYER))  # type: ignore[misc]
            hub.wait(lambda: not hub.open())
            assert hub.requests[-1].end is End.CUT


def test_a_trickle_brings_everything() -> None:
    """It comes in pieces; released, at once."""
    with scripted_registry() as hub:
        hub.put(SMALL, "app", "1")
        script = hub.script(Stage.LAYER, Trickle(10_000, 0.001), times=1)
        assert get(hub, BLOB)[2] == LAYER.data
        assert script.reached == 1
        slow = hub.script(Stage.LAYER, Trickle(1, 3600.0))
        with connected(hub) as connection:
            connection.request("GET", BLOB)
            hub.wait(lambda: slow.reached)
            slow.release()
            assert connection.getresponse().read() == LAYER.data


def test_any_answer_any_number_of_times() -> None:
    """Status, headers and body as the script says, for one repository, so often; then the truth again."""
    with scripted_registry() as hub:
        hub.put(SMALL, "app", "1")
        hub.put(SMALL, "other", "1")
        hub.script(Stage.MANIFEST, Answer(429, b"slow", {"Retry-After": "7"}), repository="app", times=2)
        for _ in range(2):
            status, headers, body = get(hub, MANIFEST)
            assert (status, headers["Retry-After"], headers["Content-Type"], body) == (429, "7", "text/html", b"slow")
        assert get(hub, MANIFEST)[0] == 200
        assert get(hub, "/v2/other/manifests/1")[0] == 200
        hub.script(Stage.MANIFEST, Answer(503, b"<html>"), reference="1")
        hub.script(Stage.MANIFEST, Answer(403))
        assert get(hub, MANIFEST)[0] == 403  # the last script counts


def test_closed_connections_and_wrong_bodies() -> None:
    """The connection ends before the answer or in the body; bodies are shorter or others than the digest promises."""
    with scripted_registry() as hub:
        hub.put(SMALL, "app", "1")
        hub.script(Stage.LAYER, Close(), times=1)
        with pytest.raises(http.client.RemoteDisconnected):
            get(hub, BLOB)
        hub.script(Stage.LAYER, Close(after=100), times=1)
        with pytest.raises(http.client.IncompleteRead) as caught:
            get(hub, BLOB)
        assert caught.value.partial == LAYER.data[:100]
        assert [one.end for one in hub.requests] == [End.CLOSED, End.CLOSED]
        for change, size in ((corrupted, len(LAYER.data)), (truncated, len(LAYER.data) // 2)):
            hub.script(Stage.LAYER, Change(change), times=1)
            _, headers, body = get(hub, BLOB)
            assert len(body) == size
            assert body != LAYER.data
            assert headers["Docker-Content-Digest"] == LAYER.digest


def test_tokens_and_passwords() -> None:
    """A challenge leads to the token, a token opens the registry; the record knows whose it was."""
    with scripted_registry(auth=Auth.BEARER, accounts={"bob": "s"}) as hub:
        hub.put(SMALL, "app", "1")
        status, headers, _ = get(hub, MANIFEST)
        assert status == 401
        realm = f'Bearer realm="http://{hub.address}/token",service="scripted"'
        assert headers["WWW-Authenticate"] == realm
        basic = "Basic " + base64.b64encode(b"bob:s").decode()
        assert get(hub, "/token?scope=repository:app:pull")[0] == 401
        status, _, body = get(hub, "/token?scope=repository:app:pull", Authorization=basic)
        token = json.loads(body)["token"]
        assert get(hub, MANIFEST, Authorization=f"Bearer {token}")[0] == 200
        assert get(hub, MANIFEST, Authorization="Bearer other")[0] == 401
        assert [one.user for one in hub.requests] == ["", "", "bob", "bob", ""]
        assert hub.asked(Stage.TOKEN)[0].repository == "app"
    with scripted_registry(auth=Auth.BASIC, accounts={"bob": "s"}) as hub:
        hub.put(SMALL, "app", "1")
        assert get(hub, MANIFEST)[1]["WWW-Authenticate"].startswith("Basic ")
        assert get(hub, MANIFEST, Authorization=basic)[0] == 200


def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    """HTTPS works for who knows the authority; a client that goes is noticed there too."""
    need("openssl")
    made = Certificates.make(tmp_path)
    trusting = ssl.create_default_context(cafile=str(made.ca_folder / "ca.crt"))
    with scripted_registry(certificates=made) as hub:
        hub.put(SMALL, "app", "1")
        assert RegistryClient(hub.address, tls=trusting).digest("app", "1") == SMALL.digest
        with pytest.raises(ssl.SSLCertVerificationError):
            RegistryClient(hub.address, tls=ssl.create_default_context()).digest("app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=5000))
        connection = http.client.HTTPSConnection(hub.address, timeout=30, context=trusting)
        connection.request("GET", BLOB)
        hub.wait(lambda: hang.reached)
        connection.close()
        hub.wait(lambda: not hub.open())
        assert hub.requests[-1].end is End.CUT


def test_waiting_ends_with_what_was_seen() -> None:
    """A condition that does not come is an error that shows the last requests."""
    with scripted_registry() as hub:
        get(hub, "/v2/")
        with pytest.raises(TimeoutError, match=r"(?s)not in 0\.01 s.*Stage\.PING"):
            hub.wait(lambda: False, 0.01)


def test_leaving_ends_what_hangs() -> None:
    """The block ends although clients are still connected, in whatever state."""
    with contextlib.ExitStack() as stack:
        with scripted_registry() as hub:
            hub.put(SMALL, "app", "1")
            hang = hub.script(Stage.LAYER, Hang())
            for path in ("/v2/", BLOB):
                connection = stack.enter_context(connected(hub))
                connection.request("GET", path)
            hub.wait(lambda: hang.reached)
        assert hub.open() == ()
