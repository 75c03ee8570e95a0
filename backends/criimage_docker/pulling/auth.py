"""The X-Registry-Auth header: who pulls, as the engine wants to be told."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from criimage.reference import DEFAULT_DOMAIN

if TYPE_CHECKING:
    from criimage.credentials import Credentials

__all__ = ["registry_auth"]

_DOCKER_HUB = "https://index.docker.io/v1/"


def registry_auth(credentials: Credentials | None, domain: str) -> str:
    """Return the header's value for a pull from `domain`.

    URL-safe padded base64 of compact JSON with a line end, as Go's client encodes it; empty fields are left out, and an
    anonymous pull sends the empty object, `e30K` (dockershim P1, P2). `auth` was decoded before (P5).

    The server address is always the registry that is asked. The engines disagree about an empty or a foreign one: 20.10
    ignores it, the containerd image store drops the credentials without a word (P4), for an empty one too unless the
    registry is Docker Hub.
    """
    fields: dict[str, str] = {}
    if credentials is not None:
        fields = {
            "username": credentials.username,
            "password": credentials.password,
            "serveraddress": _DOCKER_HUB if domain == DEFAULT_DOMAIN else domain,
            "identitytoken": credentials.identity_token,
            "registrytoken": credentials.registry_token,
        }
    text = json.dumps({key: value for key, value in fields.items() if value}, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogateescape") + b"\n").decode("ascii")
