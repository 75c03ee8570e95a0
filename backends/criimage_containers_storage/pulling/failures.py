"""What went wrong, from skopeo's own words (cri-o section 8, table; skopeo 1.9.3, and 1.18 after V1, V2).

Known situations get a text of ours, always the same for the same situation. Anything else passes skopeo's words on,
without addresses of ours, temporary paths, user names in URLs and HTML.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from criimage import errors
from criimage_containers_storage.pulling.rate_limits import seconds_to_wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from criimage_containers_storage.pulling.process import Outcome

__all__ = ["LAYER_GONE", "last_words", "pull_failure", "store_failure", "tidy"]

LAYER_GONE = "layer not known"

_FATAL = re.compile(r'level=fatal msg=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_MIRRORS = re.compile(r"\(Mirrors also failed: .*\]\): ", re.DOTALL)
# Names may spell anything, `denied` too: they are taken out before the words are looked at.
_NAMES = re.compile(
    r"reading manifest \S+ in \S+|container registry \S+|lookup \S+"
    r'|(?:docker|https?|containers-storage):/?/?[^\s"]+|"[^"]*/[^"]*"',
    re.IGNORECASE,
)
_NOT_FOUND_CODE = 2

_PULL: tuple[tuple[re.Pattern[str], type[errors.CriimageError], str], ...] = tuple(
    (re.compile(words, re.IGNORECASE), kind, text)
    for words, kind, text in (
        (r"trust policy|invalid policy in", errors.ConfigurationError, "the signature policy cannot be used"),
        (r"no space left on device|disk quota exceeded", errors.StorageFull, "no space left on device"),
        (r"is blocked in", errors.PullError, "the registry is blocked by the machine's registries.conf"),
        (
            r"rejected by policy|source image rejected|signature was required",
            errors.SignatureRejected,
            "",
        ),
        (
            r"no image found in (image index|manifest list) for",
            errors.PlatformMissing,
            "no image found in image index for this machine's platform",
        ),
        (
            r"toomanyrequests|too many requests|\b429\b",
            errors.RateLimited,
            "",
        ),
        (
            r"unauthorized|authentication required|invalid username/password|no basic auth credentials|\b401\b",
            errors.AccessDenied,
            "unauthorized: authentication required",
        ),
        (
            r"(?<!permission )denied|\b403\b",
            errors.AccessDenied,
            "denied: requested access to the resource is denied",
        ),
        (
            r"blob unknown|blob sha256:\w+: .*\b404\b",
            errors.RemoteImageMissing,
            "blob unknown: the registry lacks a part of the image",
        ),
        (
            r"manifest unknown|name unknown|name_unknown|repository name not known|\b404\b",
            errors.RemoteImageMissing,
            "manifest unknown",
        ),
        (r"connection refused", errors.RegistryUnavailable, "connection refused"),
        (
            r"no such host|server misbehaving|name resolution",
            errors.RegistryUnavailable,
            "no such host: the registry's name cannot be resolved",
        ),
        (
            r"i/o timeout|handshake timeout|deadline exceeded|timed out|client\.timeout",
            errors.RegistryUnavailable,
            "the registry did not answer in time",
        ),
        (
            r"connection reset|broken pipe|network is unreachable|no route to host|host is down",
            errors.RegistryUnavailable,
            "the connection to the registry failed",
        ),
        (r"\b500\b|internal server error", errors.PullError, "the registry answered 500 Internal Server Error"),
        (r"\b502\b|bad gateway", errors.RegistryUnavailable, "the registry answered 502 Bad Gateway"),
        (r"\b503\b|service unavailable", errors.RegistryUnavailable, "the registry answered 503 Service Unavailable"),
        (r"\b504\b|gateway timeout", errors.RegistryUnavailable, "the registry answered 504 Gateway Timeout"),
        (
            r"server gave http response to https client|does not look like a tls handshake",
            errors.PullError,
            "server gave HTTP response to HTTPS client; is the registry to be marked insecure in registries.conf?",
        ),
        (
            r"x509|certificate",
            errors.PullError,
            "x509: the registry's certificate is not trusted or not valid for its name",
        ),
        (
            r"does not match config's diffid",
            errors.ContentInvalid,
            "the layers do not match the image's config",
        ),
        (r"does not match|did not match|mismatch", errors.ContentInvalid, "the content does not match its digest"),
        (
            r"unsupported (media|manifest|mime|schema|image|docker)|artifact|unknown media",
            errors.ContentInvalid,
            "unsupported media type: this is no container image",
        ),
        (
            r"looking for beginning of value|unexpected end of json input|cannot unmarshal",
            errors.ContentInvalid,
            "the registry answered something that is no manifest",
        ),
        (r"unexpected eof", errors.ContentInvalid, "a layer ended early: unexpected EOF"),
        (
            r"corrupt input|invalid header|invalid tar|invalid checksum|invalid magic|magic number",
            errors.ContentInvalid,
            "the content is damaged",
        ),
        (r": eof\b", errors.RegistryUnavailable, "the registry closed the connection"),
        (r"permission denied|read-only file system", errors.OperationFailed, "the store cannot be written"),
    )
)


def last_words(outcome: Outcome) -> str:
    """Return the last fatal message of a tool that logs as skopeo does, without the errors of mirrors (E4)."""
    found = _FATAL.findall(outcome.err)
    if not found:
        how = f"was killed by signal {-outcome.code}" if outcome.code < 0 else f"ended with code {outcome.code}"
        lines = [line for line in outcome.err.splitlines() if line.strip() and " level=debug " not in line]
        return f"{how}{': ' + lines[-1] if lines else ''}"
    quoted, bare = found[-1]
    try:
        text = str(json.loads(f'"{quoted}"')) if quoted else bare
    except ValueError:
        text = quoted.replace('\\"', '"')
    return _MIRRORS.sub("", text)


def pull_failure(outcome: Outcome, name: str, *, secrets: Iterable[str] = ()) -> errors.CriimageError:
    """Return the error for a failed copy or inspection.

    Args:
        outcome: of the tool.
        name: the image, for the text.
        secrets: never to be seen in the text.
    """
    words = last_words(outcome)
    plain = _NAMES.sub("…", words)
    for pattern, kind, text in _PULL:
        if pattern.search(plain):
            if kind is errors.RateLimited:
                seconds = seconds_to_wait(outcome.err)
                asked = "" if seconds is None else f" {seconds} s"
                return kind(f"toomanyrequests: the registry asks to wait{asked}: {name}")
            return kind(f"{text or tidy(_reason(words), secrets)}: {name}")
    if outcome.code == _NOT_FOUND_CODE and "msg=" in outcome.err:
        return errors.RemoteImageMissing(f"manifest unknown: {name}")
    kind = errors.OperationFailed if outcome.code < 0 else errors.PullError
    return kind(f"cannot pull {name}: skopeo: {tidy(words, secrets)}")


def _reason(words: str) -> str:
    return (words.partition("Source image rejected: ")[2] or words).rstrip(".")


def store_failure(outcome: Outcome, action: str) -> errors.CriimageError:
    """Return the error for a failed change of the store.

    Args:
        outcome: of the tool.
        action: what was tried, for the text.
    """
    words = last_words(outcome)
    if "in use by" in words:
        return errors.ImageInUse(words)
    if "no space left" in words:
        return errors.StorageFull(f"{action}: no space left on device")
    return errors.OperationFailed(f"{action}: {tidy(words)}")


def tidy(words: str, secrets: Iterable[str] = ()) -> str:
    """Return `words` without what changes from time to time and what nobody may read."""
    for secret in secrets:
        if secret:
            words = words.replace(secret, "…")
    for pattern, replacement in _VOLATILE:
        words = pattern.sub(replacement, words)
    words = " ".join(words.split())
    return words if len(words) <= _LENGTH_LIMIT else words[:_LENGTH_LIMIT] + "…"


_LENGTH_LIMIT = 400
_VOLATILE = (
    (re.compile(r" ?\(heuristic tuning data: [^)]*\):?"), ""),
    (re.compile(r"\"?<(?:!doctype|html|head|body)\b.*", re.IGNORECASE | re.DOTALL), "…"),
    (re.compile(r"//[^/@\s\"]+@"), "//"),
    (re.compile(r"[0-9a-fA-F.:\[\]]+:\d+->"), ""),
    (re.compile(r"/\S*criimage-work-[^\s\":]*|/\S*/storage\d+/\d+|/proc/self/fd/\d+"), "…"),
    (re.compile(r"\?[^\s\"]*(?:token|sig|key)[^\s\"]*", re.IGNORECASE), ""),
)
