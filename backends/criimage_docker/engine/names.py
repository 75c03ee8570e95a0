"""Names as the engine wants and gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.catalogue import qualified
from criimage.errors import InvalidRequest
from criimage.reference import DEFAULT_DOMAIN, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from criimage.reference import Name

__all__ = [
    "familiar",
    "familiar_filter",
    "familiar_repository",
    "is_reference",
    "only_digests",
    "only_tags",
]

_HUB_PREFIXES = ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/")


def familiar_repository(reference: Reference) -> str:
    """Return the repository as Go's client sends it in `fromImage` (P6): `busybox` for docker.io/library/busybox."""
    return _short(reference.domain, reference.path)


def familiar(reference: Reference) -> str:
    """Return a reference in the familiar form, in which events name what was pulled."""
    tail = f":{reference.tag}" if reference.digest is None else f"@{reference.digest}"
    return familiar_repository(reference) + tail


def familiar_filter(text: str, name: Name | None) -> str:
    """Return a list filter in the familiar form, the only one that every engine compares (L6, L9).

    Args:
        text: as the client wrote it.
        name: the text read as a name without a digest, or None for a glob.
    """
    if name is None:
        for prefix in _HUB_PREFIXES:
            if text.startswith(prefix):
                return text.removeprefix(prefix)
        return text
    # No tag means any tag here, not `latest`.
    return familiar_repository(qualified(name)) + (f":{name.tag}" if name.tag is not None else "")


def _short(domain: str, path: str) -> str:
    if domain != DEFAULT_DOMAIN:
        return f"{domain}/{path}"
    official = path.removeprefix("library/")
    return official if "/" not in official else path


def only_tags(names: Iterable[str]) -> tuple[Reference, ...]:
    """Return the tags among an engine's RepoTags, sorted.

    `<none>:<none>`, which engines before API 1.43 give to an untagged image, and digest references, which the
    containerd store lists among the tags, are left out (C5, C6).
    """
    return tuple(sorted({found for found in _parsed(names) if found.digest is None}, key=str))


def only_digests(names: Iterable[str]) -> tuple[Reference, ...]:
    """Return the digest references among an engine's RepoDigests, sorted as 20.10 sorts them.

    `<none>@<none>` and bare digests, which the containerd store gives without a manifest for this platform, are left
    out (C5, C7); it also lists one reference several times.
    """
    return tuple(sorted({found for found in _parsed(names) if found.digest is not None}, key=str))


def is_reference(name: str) -> bool:
    """Tell whether a name of the engine's is one in our grammar."""
    return any(_parsed((name,)))


def _parsed(names: Iterable[str]) -> Iterable[Reference]:
    for name in names:
        try:
            yield Reference.parse(name, DEFAULT_DOMAIN)
        except InvalidRequest:
            continue
