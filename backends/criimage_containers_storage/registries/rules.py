"""By which rules a registry is asked for an image: signature policy, registries.conf, certificates (cri-o C1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.errors import InvalidRequest
from criimage.files import is_there
from criimage.reference import shown
from criimage_containers_storage.registries.policy import accepts_anything, find_policy, read_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.reference import Reference
    from criimage_containers_storage.settings import Settings

__all__ = ["RuleFinder", "Rules"]

# What a namespace may be called (RFC 1123 label); nothing else becomes part of a file name.
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Rules:
    """What skopeo is told beside names and credentials.

    Attributes:
        policy: the signature policy.
        registries_conf: the registries' configuration, if it exists.
        certs_dir: certificates, or empty.
        unconditional: the policy accepts the image without looking at it.
    """

    policy: Path
    registries_conf: Path | None = None
    certs_dir: str = ""
    unconditional: bool = False


@dataclass(frozen=True, slots=True)
class RuleFinder:
    """Finds the rules for each pull in the settings and the machine's files.

    Attributes:
        settings: the operator's.
        environment: where HOME is taken from.
    """

    settings: Settings
    environment: Mapping[str, str]

    def find(self, reference: Reference, conf: Path | None, namespace: str) -> Rules:
        """Return the rules for one pull. Blocks on small files.

        Args:
            reference: the image.
            conf: the registries.conf that skopeo is to be given.
            namespace: of the pod, or empty; it may have a policy of its own (C1).

        Raises:
            ConfigurationError: the policy is missing or not valid.
            InvalidRequest: the namespace cannot be one.
        """
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise InvalidRequest(f"invalid namespace {shown(namespace)}")
        policy = self._policy(namespace)
        return Rules(policy, conf, self.settings.certs_dir, accepts_anything(read_policy(policy), reference))

    def _policy(self, namespace: str) -> Path:
        if namespace and self.settings.policy_dir:
            own = Path(self.settings.policy_dir) / f"{namespace}.json"
            if is_there(own):
                return own
        return find_policy(self.settings.policy, self.environment)
