"""Which credentials a pull goes with, and what is said about where they come from (cri-o A1-A11)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from criimage.credentials import Credentials
from criimage.reference import Reference
from criimage_containers_storage.registries.credentials import CredentialResolver, ResolvedCredentials
from criimage_containers_storage.registries.registries_conf import Mirror, Registries, Registry
from criimage_containers_storage.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

APP = Reference.parse("hub.example/team/app:1")
OWN = Credentials("me", "s3cret")


def entry(text: str) -> dict[str, str]:
    """As in an auth file."""
    return {"auth": base64.b64encode(text.encode()).decode()}


def resolved(folder: Path, credentials: Credentials | None, *tables: Registry, namespace: str = "") -> Any:  # noqa: ANN401
    """What becomes of a request on a machine whose auth file has entries for the registry and a mirror's host."""
    machine = folder / "machine.json"
    auths = {"hub.example": entry("machine:x"), "mirror.example": entry("mirror:y")}
    machine.write_text(json.dumps({"auths": auths}))
    settings = Settings(auth_file=str(machine), namespaced_auth_dir=str(folder / "namespaces"))
    return CredentialResolver(settings, {"HOME": "/nonexistent"}).resolve(
        APP, credentials, Registries(registries=tables), namespace
    )


def test_without_any_of_its_own_a_pull_has_the_machines(tmp_path: Path) -> None:
    """The tools read the file themselves: its path is told, nothing of it is copied, its secrets are masked."""
    found: ResolvedCredentials = resolved(tmp_path, None)
    assert (found.auth, found.anonymous, found.source) == (b"", False, str(tmp_path / "machine.json"))
    assert "machine:x" not in found.secrets.mask("it says machine:x")
    none = CredentialResolver(Settings(auth_file=str(tmp_path / "none")), {"HOME": "/nonexistent"})
    assert none.resolve(APP, None, Registries(), "").source == "none"


def test_a_requests_credentials_are_for_its_registry_alone(tmp_path: Path) -> None:
    """For the repository and mirrors on the same host; another host gets what the machine has for it (A9, A10)."""
    mirrors = (Mirror("hub.example/cache/app"), Mirror("mirror.example/app"), Mirror("other.example/app"))
    found: ResolvedCredentials = resolved(tmp_path, OWN, Registry("hub.example/team/app", "", mirrors=mirrors))
    assert json.loads(found.auth)["auths"] == {
        "hub.example/team/app": entry("me:s3cret"),
        "hub.example/cache/app": entry("me:s3cret"),
        "mirror.example/app": entry("mirror:y"),
    }
    assert (found.anonymous, found.source) == (False, "request")
    assert "s3cret" not in found.secrets.mask("it says s3cret")


@pytest.mark.parametrize("credentials", [Credentials(), Credentials(registry_token="token")])  # noqa: S106
def test_what_no_auth_file_can_carry_is_withheld(tmp_path: Path, credentials: Credentials) -> None:
    """Such a pull is anonymous, and says so: it gets nobody else's credentials in place of its own (A8)."""
    found: ResolvedCredentials = resolved(tmp_path, credentials)
    assert (found.auth, found.anonymous, found.source) == (b"", True, "withheld")


def test_a_namespaces_file_serves_a_request_without_credentials(tmp_path: Path) -> None:
    """It is used once and gone, its folder is told; a request's own credentials leave it where it is (A11)."""
    folder = tmp_path / "namespaces"
    folder.mkdir()
    file = folder / f"team-{hashlib.sha256(APP.repository.encode()).hexdigest()}.json"
    content = json.dumps({"auths": {"hub.example": entry("pod:z3cret")}}).encode()
    file.write_bytes(content)
    assert resolved(tmp_path, OWN, namespace="team").source == "request"
    assert resolved(tmp_path, None, namespace="other").auth == b""
    found: ResolvedCredentials = resolved(tmp_path, None, namespace="team")

    assert (found.auth, found.source) == (content, str(folder))
    assert "z3cret" not in found.secrets.mask("it says z3cret")
    assert not file.exists()
    assert resolved(tmp_path, None, namespace="team").auth == b""
