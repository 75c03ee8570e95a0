"""By which rules a registry is asked for an image: signature policy, registries.conf, certificates (cri-o C1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.errors import InvalidRequest
from criimage.files import is_there
from criimage.reference import shown
from criimage_containers_storage.config_files import RuleSet, policy_file
from criimage_containers_storage.registries.overrides import NOTHING_TOLD, Override, Told, in_force
from criimage_containers_storage.registries.policy import accepts_anything, read_policy
from criimage_containers_storage.registries.registries_conf import DEFAULT_HELPER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.reference import Reference
    from criimage_containers_storage.registries.credentials import ResolvedCredentials
    from criimage_containers_storage.registries.current import Configuration
    from criimage_containers_storage.settings import Settings

__all__ = ["RuleFinder", "Rules"]

# What a namespace may be called (RFC 1123 label); nothing else becomes part of a file name.
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Rules:
    """What skopeo is told beside names and credentials.

    Attributes:
        policy: the signature policy.
        told: how it is told about its registries.conf.
        certs_dir: certificates, or empty.
        unconditional: the policy accepts the image without looking at it.
    """

    policy: Path
    told: Told = NOTHING_TOLD
    certs_dir: str = ""
    unconditional: bool = False


@dataclass(frozen=True, slots=True)
class RuleFinder:
    """Finds the rules for each pull in the settings and the machine's files.

    Attributes:
        settings: the operator's.
        environment: where HOME is taken from.
        rule_set: by which skopeo finds its files.
    """

    settings: Settings
    environment: Mapping[str, str]
    rule_set: RuleSet = RuleSet.OLDER

    def find(self, reference: Reference, namespace: str) -> Rules:
        """Return the rules for one pull, without what `tell` returns. Blocks on small files.

        Args:
            reference: the image.
            namespace: of the pod, or empty; it may have a policy of its own (C1).

        Raises:
            ConfigurationError: the policy is missing or not valid.
            InvalidRequest: the namespace cannot be one.
        """
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise InvalidRequest(f"invalid namespace {shown(namespace)}")
        policy = self._policy(namespace)
        return Rules(policy, NOTHING_TOLD, self.settings.certs_dir, accepts_anything(read_policy(policy), reference))

    def tell(
        self, configuration: Configuration, reference: Reference, credentials: ResolvedCredentials, folder: Path
    ) -> Told:
        """Return how skopeo is told about its registries.conf for one pull. Blocks on small files.

        Args:
            configuration: by which it goes.
            reference: the image.
            credentials: with what; those of a request come before every helper.
            folder: not there yet, and this pull's own.

        Raises:
            OSError: the folder cannot be written.
            ConfigurationError: a file that is to be read last cannot be read.
        """
        registries = configuration.registries
        helpers = registries.helpers if credentials.auth and set(registries.helpers) - {DEFAULT_HELPER} else None
        blocked: tuple[str, ...] = ()
        registry = registries.find(reference)
        if registry is not None and registry.blocked:
            source = registry.source(reference)
            by_itself = registries.about(source)
            # skopeo looks at the rewritten name only.
            blocked = () if by_itself is not None and by_itself.blocked else (source,)
        return in_force(Override(helpers, blocked), configuration.files, configuration.main, folder, self.environment)

    def _policy(self, namespace: str) -> Path:
        if namespace and self.settings.policy_dir:
            own = Path(self.settings.policy_dir) / f"{namespace}.json"
            if is_there(own):
                return own
        return policy_file(self.settings.policy, self.environment, self.rule_set)
