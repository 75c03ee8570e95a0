"""The X-Registry-Auth header, byte for byte (docker P1-P5)."""

from __future__ import annotations

import base64
import json

import pytest

from criimage.credentials import Credentials
from criimage.errors import InvalidRequest
from criimage_docker.pulling.auth import registry_auth


def decoded(credentials: Credentials | None, domain: str = "registry.example:5000") -> dict[str, str]:
    text = base64.urlsafe_b64decode(registry_auth(credentials, domain))
    assert text.endswith(b"\n")
    found: dict[str, str] = json.loads(text)
    return found


def test_anonymous() -> None:
    """P2: always sent; the empty object as Go writes it."""
    assert registry_auth(None, "docker.io") == "e30K"


def test_all_fields() -> None:
    """P1: every field under the engine's name, and the asked registry as server address."""
    credentials = Credentials("user", "pass", "identity", "registry", "https://other.example/v1/")

    assert decoded(credentials) == {
        "username": "user",
        "password": "pass",
        "identitytoken": "identity",
        "registrytoken": "registry",
        "serveraddress": "registry.example:5000",
    }


def test_empty_fields_are_left_out() -> None:
    """P2: only what is there."""
    assert set(decoded(Credentials("user"))) == {"username", "serveraddress"}
    assert set(decoded(Credentials(registry_token="t"))) == {"registrytoken", "serveraddress"}  # noqa: S106 - a test's


def test_docker_hub() -> None:
    """P4: Docker Hub has an address of its own in credentials, which every engine knows."""
    assert decoded(Credentials("user", "pass"), "docker.io")["serveraddress"] == "https://index.docker.io/v1/"


def test_the_alphabet() -> None:
    """P2: URL-safe and padded; other characters than ASCII as they are."""
    text = registry_auth(Credentials("u", "???>>>üö~~"), "a.example")

    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")
    assert len(text) % 4 == 0
    assert decoded(Credentials("u", "???>>>üö~~"), "a.example")["password"] == "???>>>üö~~"  # noqa: S105 - a test's


def test_auth_is_decoded_before() -> None:
    """P5: the field that dockershim ignores becomes user and password; what is no base64 is refused."""
    given = Credentials.from_request(auth=base64.b64encode(b"user:pa:ss").decode())

    assert decoded(given)["username"] == "user"
    assert decoded(given)["password"] == "pa:ss"  # noqa: S105 - a test's
    with pytest.raises(InvalidRequest):
        Credentials.from_request(auth="not base64")
