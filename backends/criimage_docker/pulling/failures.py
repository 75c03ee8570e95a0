"""What the engine's words about a failed pull mean (P12-P16).

The engine passes on what registries say, so the words come from three places: the engine, its registry client (two of
them: the graph drivers' and containerd's) and the registry. The kinds below were seen on 20.10 and 26.1, see
docs/backends/docker.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from criimage import errors
from criimage.disk_failures import disk_failure
from criimage.foreign_text import keep_ends, without_chance
from criimage.masking import NO_SECRETS, Secrets
from criimage_docker.engine.words import STORE, tidy

if TYPE_CHECKING:
    from criimage.reference import Reference

__all__ = ["pull_failure"]

_WORDS_LIMIT = 4096
_BY_STATUS: dict[int, type[errors.CriimageError]] = {
    401: errors.AccessDenied,
    403: errors.AccessDenied,
    404: errors.RemoteImageMissing,
    429: errors.RateLimited,
}
_UNAVAILABLE_CODES = frozenset({502, 503, 504})

_KINDS: tuple[tuple[re.Pattern[str], type[errors.CriimageError]], ...] = tuple(
    (re.compile(words, re.IGNORECASE), kind)
    for words, kind in (
        # Not cancelled by us: then nobody would be reading. The engine, or its containerd, is going down.
        (
            r"^context canceled$|failed to send write|transport is closing|containerd\.sock|shutting down",
            errors.BackendUnavailable,
        ),
        (r"invalid reference format|repository name must be|invalid tag format", errors.InvalidRequest),
        # P15: dockerd no longer sends the code that dockershim looks for, only these words.
        (
            (
                r"received unexpected http status: 50[234]|unexpected status\b.{0,400}\b50[234]\b"
                r"|error parsing http 50[234] response"
                # What a proxy answers where a tunnel is wanted; Go passes its status line on.
                r"|\": (bad gateway|service unavailable|gateway time-?out|unexpected eof)\b|\bproxyconnect\b"
            ),
            errors.RegistryUnavailable,
        ),
        (
            (
                r"\bdial (tcp|udp)\b|connection refused|no such host|server misbehaving|i/o timeout|handshake timeout"
                r"|deadline exceeded|client\.timeout|timed out|connection reset|broken pipe|network is unreachable"
                r"|no route to host|: eof\b"
            ),
            errors.RegistryUnavailable,
        ),
        (r"no match(ing manifest)? for (linux|windows|platform)", errors.PlatformMissing),
        (r"toomanyrequests|too many requests|http 429\b|status.{0,400} 429\b", errors.RateLimited),
        (
            (
                r"unauthorized|no basic auth credentials|authentication required|authorization failed"
                r"|insufficient_scope|http 401\b|status.{0,400} 401\b"
            ),
            errors.AccessDenied,
        ),
        (r"(?<!permission )denied|forbidden|http 403\b|status.{0,400} 403\b", errors.AccessDenied),
        (
            r"manifest unknown|name unknown|repository name not known|not found|http 404\b|status.{0,400} 404\b",
            errors.RemoteImageMissing,
        ),
        (
            (
                r"verification failed|does not match|don't match|mismatch|unexpected commit digest"
                r"|failed size validation"
                r"|unexpected eof|invalid tar|invalid checksum|corrupt input|media ?type|unsupported|unknown type"
                r"|invalid character|failed to extract|applylayer|failed to register layer|invalid rootfs"
            ),
            errors.ContentInvalid,
        ),
    )
)


def pull_failure(
    message: str,
    reference: Reference,
    *,
    status: int = 0,
    code: int | None = None,
    secrets: Secrets = NO_SECRETS,
) -> errors.CriimageError:
    """Return the error for a pull that the engine refused or gave up.

    Args:
        message: the engine's words.
        reference: what was pulled.
        status: of the HTTP answer; says something only where the words say nothing, for dockerd answers 500 for a
            registry's 502 and 404 for its 403 (P12).
        code: of an `errorDetail` in the stream; 502, 503 and 504 mean that the registry cannot serve now (P13).
        secrets: never to be seen in the text.
    """
    error = disk_failure(secrets.mask(message), STORE)
    if error is not None:
        return error.with_text(f"{error.text}: {reference}")
    text = tidy(message, secrets) or "the engine gave no reason"
    if str(reference) not in text and reference.path not in text:
        text = f"{text}: {reference}"
    if code in _UNAVAILABLE_CODES:
        return errors.RegistryUnavailable(text)
    # Names may spell anything, `denied` too: they are taken out before the words are looked at.
    plain = without_chance(keep_ends(message, _WORDS_LIMIT))
    for name in (str(reference), reference.repository, reference.path, f":{reference.tag}", f"/{reference.tag}"):
        plain = plain.replace(name, "…")
    for pattern, kind in _KINDS:
        if pattern.search(plain):
            return kind(text)
    return _BY_STATUS.get(status, errors.PullError)(text)
