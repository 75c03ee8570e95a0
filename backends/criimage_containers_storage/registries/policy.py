"""policy.json, as far as we need it: where it is, whether it is usable, whether it plainly accepts an image.

skopeo alone applies it. We look because an image that is here already would escape it if its pull were skipped (P9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from criimage.errors import ConfigurationError
from criimage.files import read_if_there
from criimage.foreign_json import parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from criimage.reference import Reference

__all__ = ["accepts_anything", "read_policy"]

_ANYTHING = "insecureAcceptAnything"


def read_policy(file: Path) -> dict[str, Any]:
    """Read a policy. Blocks.

    Raises:
        ConfigurationError: it is missing or not valid; nothing can be pulled then.
    """
    content = read_if_there(file)
    if content is None:
        raise ConfigurationError(f"there is no signature policy {file}")
    try:
        policy = parse(content)
    except ValueError as error:
        raise ConfigurationError(f"cannot read the signature policy {file}: {error}") from error
    if not isinstance(policy, dict) or not isinstance(policy.get("default"), list) or not policy["default"]:
        raise ConfigurationError(f"the signature policy {file} has no default requirements")
    if not isinstance(policy.get("transports", {}), dict):
        raise ConfigurationError(f"the signature policy {file} has transports that are no table")
    return policy


def accepts_anything(policy: dict[str, Any], reference: Reference) -> bool:
    """Tell whether the policy accepts every image of this name without looking at it.

    containers-policy.json(5): the most specific scope of the transport counts, then the transport's empty scope, then
    the default.
    """
    scopes = policy.get("transports", {}).get("docker", {})
    if not isinstance(scopes, dict):
        return False
    requirements = next((scopes[scope] for scope in _scopes(reference) if scope in scopes), policy["default"])
    return isinstance(requirements, list) and requirements == [{"type": _ANYTHING}]


def _scopes(reference: Reference) -> Iterator[str]:
    yield str(reference)
    scope = reference.repository
    yield scope
    while "/" in scope:
        scope = scope.rpartition("/")[0]
        yield scope
    host = scope.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""
