"""With which credentials a registry is asked (cri-o A5-A11)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from criimage.files import UnreadableFile, is_there
from criimage.foreign_json import parse
from criimage.masking import NO_SECRETS, Secrets
from criimage_containers_storage.registries.auth_files import auth_files, read_auth_file, render, sendable
from criimage_containers_storage.registries.namespaced import take

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from criimage.credentials import Credentials
    from criimage.reference import Reference
    from criimage_containers_storage.registries.registries_conf import Registries
    from criimage_containers_storage.settings import Settings

__all__ = ["CredentialResolver", "ResolvedCredentials"]

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class ResolvedCredentials:
    """What skopeo is given to log in with.

    Attributes:
        auth: an auth file's content for this request, or empty.
        auth_file: the operator's auth file, if there is no `auth`.
        anonymous: without any credentials, whatever the machine has.
        source: where the credentials come from, for the audit: `request`, a file, `withheld` or `none`.
        secrets: never to be seen in a text: the request's, and what the machine's files and proxies hold.
    """

    auth: bytes = field(default=b"", repr=False)
    auth_file: str = ""
    anonymous: bool = False
    source: str = ""
    secrets: Secrets = NO_SECRETS


@dataclass(frozen=True, slots=True)
class CredentialResolver:
    """Finds the credentials for each pull in the request and in the machine's files.

    Attributes:
        settings: the operator's.
        environment: where HOME and the tools' variables are taken from.
    """

    settings: Settings
    environment: Mapping[str, str]

    def resolve(
        self, reference: Reference, credentials: Credentials | None, registries: Registries, namespace: str
    ) -> ResolvedCredentials:
        """Return the credentials for one pull. Blocks on small files.

        Args:
            reference: the image.
            credentials: of the request.
            registries: what registries.conf says.
            namespace: of the pod, or empty; one that `rules` has let through.

        Raises:
            PullError: the namespace's auth file is not valid.
            ConfigurationError: it cannot be told whether there is one.
        """
        own = None if credentials is not None else take(self.settings.namespaced_auth_dir, namespace, reference)
        auth = own or b""
        if credentials is not None and sendable(credentials):
            # Mirrors on other hosts never get what the caller sent for this one (A10).
            asked = registries.endpoints(reference)
            same = [one for one in asked if one.partition("/")[0] == reference.domain]
            others = [one for one in asked if one not in same]
            auth = render(credentials, [reference.repository, *same], others, self._others())
        anonymous = credentials is not None and not sendable(credentials)
        return ResolvedCredentials(
            auth,
            self.settings.auth_file,
            anonymous,
            "withheld" if anonymous else self._source(credentials, namespaced=own is not None),
            Secrets.of(credentials) | self._of_machine(own) | Secrets(self._proxy_secrets()),
        )

    def _source(self, credentials: Credentials | None, *, namespaced: bool) -> str:
        if credentials is not None:
            return "request"
        if namespaced:
            return self.settings.namespaced_auth_dir
        # Whether it has an entry for this registry is the tools' to know.
        return next((str(file) for file in self._others() if _may_be_there(file)), "none")

    def _of_machine(self, own: bytes | None) -> Secrets:
        # A registry that sends back what it got shows them to a client that never had them.
        found = NO_SECRETS
        for document in [read_auth_file(file) for file in self._others()] if own is None else [parse(own)]:
            found |= Secrets.of_auth_file(document)
        return found

    def _others(self) -> Sequence[Path]:
        return auth_files(self.settings.auth_file, self.environment, uid=os.getuid())[0]

    def _proxy_secrets(self) -> list[str]:
        found = []
        for variable, value in self.environment.items():
            if variable.lower() in _PROXY_VARIABLES:
                # Not by a reader of URLs: what is none is passed over by the tools, and must not fail a pull here.
                login = value.rpartition("@")[0]
                password = (login.partition("://")[2] or login).partition(":")[2]
                found += [password, unquote(password)]
        return found


def _may_be_there(file: Path) -> bool:
    try:
        return is_there(file)
    except UnreadableFile:
        # The tools will look there, and fail with it.
        return True
