"""With which credentials, under which policy and by which configuration a registry is asked (cri-o A5-A11, C1)."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from criimage.errors import InvalidRequest, PullError
from criimage.reference import shown
from criimage_containers_storage.auth_files import default_files, render, sendable
from criimage_containers_storage.json_text import parse
from criimage_containers_storage.policy import accepts_anything, find_policy, read_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from criimage.credentials import Credentials
    from criimage.reference import Reference
    from criimage_containers_storage.registries import Registries
    from criimage_containers_storage.settings import Settings

__all__ = ["Access", "Entrance"]

# What a namespace may be called (RFC 1123 label); nothing else becomes part of a file name.
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is asked for one image.

    Attributes:
        policy: the signature policy.
        registries_conf: the registries' configuration, if it exists.
        auth: an auth file's content for this request, or empty.
        auth_file: the operator's auth file, if there is no `auth`.
        anonymous: without any credentials, whatever the machine has.
        certs_dir: certificates, or empty.
        unconditional: the policy accepts the image without looking at it.
        source: where the credentials come from, for the audit: `request`, a file, `withheld` or `none`.
        secrets: never to be seen in a text.
    """

    policy: Path
    registries_conf: Path | None = None
    auth: bytes = field(default=b"", repr=False)
    auth_file: str = ""
    anonymous: bool = False
    certs_dir: str = ""
    unconditional: bool = False
    source: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Entrance:
    """Makes the access for each pull from the settings and the machine's files.

    Attributes:
        settings: the operator's.
        environment: where HOME and the tools' variables are taken from.
    """

    settings: Settings
    environment: Mapping[str, str]

    def prepare(
        self,
        reference: Reference,
        credentials: Credentials | None,
        configured: tuple[Registries, Path | None],
        namespace: str,
    ) -> Access:
        """Return the access for one pull. Blocks on small files.

        Args:
            reference: the image.
            credentials: of the request.
            configured: what registries.conf says, and the file that skopeo is to be given.
            namespace: of the pod, or empty.

        Raises:
            ConfigurationError: the policy is missing or not valid.
            InvalidRequest: the namespace cannot be one.
            PullError: the namespace's auth file is not valid.
        """
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise InvalidRequest(f"invalid namespace {shown(namespace)}")
        registries, conf = configured
        policy_file = self._policy(namespace)
        unconditional = accepts_anything(read_policy(policy_file), reference)
        own = self._take_namespaced(reference, namespace)
        auth = own or b""
        if credentials is not None and sendable(credentials):
            # Mirrors on other hosts never get what the caller sent for this one (A10).
            asked = [one for one in registries.endpoints(reference) if one.partition("/")[0] == reference.domain]
            auth = render(credentials, [reference.repository, *asked], self._others(), own)
        anonymous = credentials is not None and not sendable(credentials)
        return Access(
            policy_file,
            conf,
            auth,
            self.settings.auth_file,
            anonymous,
            self.settings.certs_dir,
            unconditional,
            "withheld" if anonymous else self._source(credentials, namespaced=own is not None),
            (*_secrets(credentials), *self._proxy_secrets()),
        )

    def _policy(self, namespace: str) -> Path:
        """Return the namespace's own policy where there is one (C1)."""
        if namespace and self.settings.policy_dir:
            own = Path(self.settings.policy_dir) / f"{namespace}.json"
            if own.exists():
                return own
        return find_policy(self.settings.policy, self.environment)

    def _source(self, credentials: Credentials | None, *, namespaced: bool) -> str:
        if credentials is not None:
            return "request"
        if namespaced:
            return self.settings.namespaced_auth_dir
        # Whether it has an entry for this registry is the tools' to know.
        return next((str(file) for file in self._others() if file.exists()), "none")

    def _others(self) -> Sequence[Path]:
        chosen = self.settings.auth_file
        return [Path(chosen)] if chosen else default_files(self.environment, uid=os.getuid())

    def _take_namespaced(self, reference: Reference, namespace: str) -> bytes | None:
        """Return the auth file that was put down for this one pull, and delete it (A11).

        As CRI-O 1.34 and its credential provider: `NAMESPACE-<sha256 of the repository>.json`. Moving it first lets
        only one pull have it.
        """
        folder = self.settings.namespaced_auth_dir
        if not (namespace and folder):
            return None
        name = f"{namespace}-{hashlib.sha256(reference.repository.encode()).hexdigest()}"
        claimed = Path(folder) / "in-use" / f"{name}-{uuid.uuid4()}.json"
        source = Path(folder) / f"{name}.json"
        if not source.exists():
            return None
        claimed.parent.mkdir(0o700, exist_ok=True)
        try:
            source.rename(claimed)
        except FileNotFoundError:
            return None
        try:
            content = claimed.read_bytes()
        finally:
            claimed.unlink()
        if not _is_object(content):
            raise PullError(f"the auth file of namespace {namespace} is not valid: {reference}")
        return content

    def _proxy_secrets(self) -> list[str]:
        found = []
        for variable, value in self.environment.items():
            if variable.lower() in _PROXY_VARIABLES:
                password = urlsplit(value if "//" in value else f"//{value}").password or ""
                found += [password, unquote(password)]
        return found


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(parse(content), dict)
    except ValueError:
        return False


def _secrets(credentials: Credentials | None) -> tuple[str, ...]:
    if credentials is None:
        return ()
    return credentials.password, credentials.identity_token, credentials.registry_token
