"""Claim: whatever a registry says to the backend in memory, a pull ends with an error of its kind, no fault of ours.

Issue 8, item 1: nonsense of an upstream became INTERNAL. Other backends: `tests/attack/cases/registries.py`.
"""

from __future__ import annotations

import json

import pytest

from criimage.credentials import Credentials
from criimage.errors import AccessDenied, ContentInvalid, CriimageError
from criimage.reference import Reference
from criimage.testing.oci import OCI_INDEX, OCI_MANIFEST, image, layer, machine_architecture
from criimage.testing.remote import RemoteRegistry
from criimage.testing.scripted_acts import Answer
from criimage.testing.scripted_registry import Auth, Stage, scripted_registry

MADE = image(layer({"data": b"x"}))
CONFIG = {"digest": MADE.config.digest, "size": 1}


def manifest(config: object = CONFIG, layers: object = ()) -> bytes:
    """A manifest of these."""
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def index(digest: object) -> bytes:
    """An index with one instance for this machine."""
    entry = {"digest": digest, "platform": {"architecture": machine_architecture(), "os": "linux"}}
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (OCI_MANIFEST, manifest({"digest": "sha256:\u00e9", "size": 1})),
        (OCI_MANIFEST, manifest({"digest": f"../../../{'0' * 64}", "size": 1})),
        (OCI_MANIFEST, manifest({"digest": 7, "size": 1})),
        (OCI_MANIFEST, manifest({"digest": MADE.config.digest, "size": 2**64})),
        (OCI_MANIFEST, manifest(layers=[{"digest": ["a", "list"], "size": 1}])),
        (OCI_MANIFEST, manifest(layers=[{"digest": "sha256:a b\r\nc", "size": 1}])),
        (OCI_MANIFEST, manifest(layers=7)),
        (OCI_INDEX, index("sha256:\u00e9")),
        (OCI_INDEX, index("1?x=/../")),
    ],
)
async def test_a_manifest_of_nonsense(kind: str, body: bytes) -> None:
    """What it names is a digest, or is asked for nowhere."""
    with scripted_registry() as hub:
        reference = Reference.parse(hub.put(MADE, "team/app", "1"))
        hub.script(Stage.MANIFEST, Answer(200, body, {"Content-Type": kind}))
        with pytest.raises(ContentInvalid):
            await RemoteRegistry(hub.address).fetch(reference, None, ())
        assert len(hub.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[" * 100_000, b"{}", b'{"token": 7}', b'{"token": "a\\r\\nb: c"}', b'{"token": "\\u00e9\\u4e00"}'],
)
async def test_a_token_service_that_sends_no_token(body: bytes) -> None:
    """The pull is refused as one without a token is."""
    with scripted_registry(auth=Auth.BEARER, accounts={"bob": "s"}) as hub:
        reference = Reference.parse(hub.put(MADE, "team/app", "1"))
        hub.script(Stage.TOKEN, Answer(200, body, {"Content-Type": "application/json"}))
        with pytest.raises(AccessDenied):
            await RemoteRegistry(hub.address).fetch(reference, Credentials("bob", "s"), ())
        assert [request.stage for request in hub.requests] == [Stage.MANIFEST, Stage.TOKEN]


async def test_a_challenge_without_an_address() -> None:
    """Its realm is no URL."""
    with scripted_registry() as hub:
        reference = Reference.parse(hub.put(MADE, "team/app", "1"))
        hub.script(Stage.MANIFEST, Answer(401, b"", {"WWW-Authenticate": 'Bearer realm="http://[",service="x"'}))
        with pytest.raises(AccessDenied):
            await RemoteRegistry(hub.address).fetch(reference, Credentials("bob", "s"), ())


async def test_a_password_that_is_no_text() -> None:
    """It goes as the bytes that the client sent."""
    password = b"\xff\xfe".decode("utf-8", "surrogateescape")
    with scripted_registry(auth=Auth.BASIC, accounts={"bob": "s"}) as hub:
        reference = Reference.parse(hub.put(MADE, "team/app", "1"))
        with pytest.raises(AccessDenied):
            await RemoteRegistry(hub.address).fetch(reference, Credentials("bob", password), ())
        assert len(hub.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_what_a_registry_sends_back_is_told_to_nobody(status: int) -> None:
    """Issue 8, item 5: it sends back what it got, and its words are in no error of this backend."""
    credentials = Credentials("bob", "swordfish-4711")
    echoed = "bob:swordfish-4711 Ym9iOnN3b3JkZmlzaC00NzEx"
    body = json.dumps({"errors": [{"code": "DENIED", "message": echoed}]}).encode()
    with scripted_registry(auth=Auth.BASIC, accounts={"bob": "swordfish-4711"}) as hub:
        reference = Reference.parse(hub.put(MADE, "team/app", "1"))
        hub.script(Stage.CONFIG, Answer(status, body, {"Content-Type": "application/json", "X-Echo": echoed}))
        with pytest.raises(CriimageError) as caught:
            await RemoteRegistry(hub.address).fetch(reference, credentials, ())
        assert hub.asked(Stage.CONFIG)[-1].user == "bob"
    assert not [part for part in ("swordfish", "Ym9i", "bob") if part in caught.value.text]
