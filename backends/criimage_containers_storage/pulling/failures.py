"""What went wrong, from skopeo's own words (cri-o section 8, table; skopeo 1.9.3, and 1.18 after V1, V2).

Known situations get a text of ours, always the same for the same situation. Anything else passes skopeo's words on,
masked, and without addresses of ours, temporary paths and HTML. A registry chooses most of these words: all that is
done with them takes time in proportion to their length, and they are cut first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog

from criimage import errors
from criimage.foreign_json import parse
from criimage.foreign_text import keep_end, keep_ends, readable, without_chance, without_own_places
from criimage.masking import NO_SECRETS, Secrets
from criimage_containers_storage.pulling.rate_limits import seconds_to_wait
from criimage_containers_storage.pulling.subjects import subject_failure

if TYPE_CHECKING:
    from criimage_containers_storage.pulling.process import Outcome

_log = structlog.get_logger(__name__)

__all__ = ["LAYER_GONE", "USER_NAMESPACE", "last_words", "pull_failure", "store_failure", "tidy"]

LAYER_GONE = "layer not known"

_FATAL = "level=fatal msg="
_QUOTED = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)')
_MIRRORS = ("(Mirrors also failed: ", "]): ")
_LENGTH_LIMIT = 400
_MIRRORS_LIMIT = 5
_BLOCKED = "is blocked in"
# Names may spell anything, `denied` too: they are taken out before the words are looked at.
_NAMES = re.compile(
    r"reading manifest \S+ in \S+|container registry \S+|lookup \S+"
    r'|(?:docker|https?|containers-storage):/?/?[^\s"]+',
    re.IGNORECASE,
)
# How the tools write which store they mean: folders and options, which say nothing to whoever asked.
_STORE = re.compile(r"containers-storage:\[[^\]]{0,4096}\]")
_STORE_ITSELF = "the store's "
_TARGET = re.compile(r"^Invalid (?:destination|source) name (?:containers-storage:\[[^\]]{0,4096}\])?\S*: ")
"""What skopeo says before why it cannot use a store: the store, which the operator knows, as nobody writes it."""
_QUOTATION = re.compile(r'"[^"]*+(?:"|\Z)')
_NOT_FOUND_CODE = 2
USER_NAMESPACE = re.compile(
    r"user namespace|unshare\(|cannot clone|new[ug]idmap|insufficient uids|/etc/sub[ug]id", re.IGNORECASE
)
"""What a tool says that cannot make the namespace in which a user unpacks."""

_PULL: tuple[tuple[re.Pattern[str], type[errors.CriimageError], str], ...] = tuple(
    (re.compile(words, re.IGNORECASE), kind, text)
    for words, kind, text in (
        (r"no space left on device|disk quota exceeded", errors.StorageFull, "no space left on device"),
        (_BLOCKED, errors.PullError, "the registry is blocked by the machine's registries.conf"),
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
            r"blob unknown|blob sha256:\w{1,64}: .{0,200}\b404\b",
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
    if whole := _fatal_words(outcome):
        return _TARGET.sub("", _without_mirrors(whole))
    lines = _lines(outcome)
    # Said before the tool's own log begins, which then knows only that something has ended.
    early = next((line for line in lines if " level=" not in line and USER_NAMESPACE.search(line)), None)
    if early is not None and outcome.code > 0:
        return keep_end(early, _LENGTH_LIMIT)
    how = f"was killed by signal {-outcome.code}" if outcome.code < 0 else f"ended with code {outcome.code}"
    return f"{how}{': ' + keep_end(lines[-1], _LENGTH_LIMIT) if lines else ''}"


def _lines(outcome: Outcome) -> list[str]:
    return [line for line in outcome.err.split("\n") if line.strip() and not _is_debug(line)]


def _fatal_words(outcome: Outcome) -> str:
    for line in reversed(_lines(outcome)):
        _, fatal, message = line.partition(_FATAL)
        if fatal:
            return _unquoted(message)
    return ""


def _is_debug(line: str) -> bool:
    # The first level is the line's own, any other one stands in a registry's words.
    return line.partition(" level=")[2].startswith("debug ")


def _unquoted(message: str) -> str:
    found = _QUOTED.match(message)
    if found is None:
        return message.partition(" ")[0]
    try:
        return str(parse(f'"{found[1]}"'))
    except ValueError:
        return found[1].replace('\\"', '"')


def _without_mirrors(words: str) -> str:
    begin, end = words.find(_MIRRORS[0]), words.rfind(_MIRRORS[1])
    return words[:begin] + words[end + len(_MIRRORS[1]) :] if 0 <= begin < end else words


def _mirrors(words: str) -> list[tuple[str, str]]:
    """Return each mirror's name and what it said, in order."""
    begin, end = words.find(_MIRRORS[0]), words.rfind(_MIRRORS[1])
    if not 0 <= begin < end:
        return []
    pieces = words[begin + len(_MIRRORS[0]) : end].removeprefix("[").split("]\n[")
    return [(mirror, said) for mirror, _, said in (piece.partition(": ") for piece in pieces)]


def pull_failure(outcome: Outcome, name: str, *, secrets: Secrets = NO_SECRETS) -> errors.CriimageError:
    """Return the error for a failed copy or inspection.

    Args:
        outcome: of the tool.
        name: the image, for the text.
        secrets: never to be seen in the text.
    """
    whole, words = _fatal_words(outcome), last_words(outcome)
    _log.debug("skopeo has failed", image=name, said=secrets.mask(whole or words))
    error = _of_words(words, outcome, name, secrets)
    mirrors = [(mirror, _of_words(said, outcome, mirror, secrets)) for mirror, said in _mirrors(whole)[:_MIRRORS_LIMIT]]
    if not mirrors:
        return error
    told = "; ".join(f"mirror {mirror}: {one.text.removesuffix(f': {mirror}')}" for mirror, one in mirrors)
    # Where the source must not be asked the mirrors' own failure is what can be mended.
    return (mirrors[-1][1] if _BLOCKED in words else error).with_text(f"{error.text} ({told})")


def _of_words(words: str, outcome: Outcome, name: str, secrets: Secrets) -> errors.CriimageError:
    # Masked before anything is cut out of it.
    error = subject_failure(without_chance(secrets.mask(words)))
    if error is not None:
        return error.with_text(f"{readable(error.text, _LENGTH_LIMIT)}: {name}")
    # Without the milliseconds that skopeo counts between two reads, too: 503 of them are no answer of a registry.
    plain = without_own_places(without_chance(keep_ends(words)))
    plain = _NAMES.sub("…", _QUOTATION.sub(_without_quoted_name, plain))
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
    return kind(f"cannot pull {name}: skopeo: {tidy(_STORE.sub(_STORE_ITSELF, words), secrets)}")


def _without_quoted_name(found: re.Match[str]) -> str:
    return "…" if "/" in found[0] and found[0].endswith('"') else found[0]


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
        return errors.ImageInUse(tidy(words))
    if "no space left" in words:
        return errors.StorageFull(f"{action}: no space left on device")
    if "read-only file system" in words:
        _log.warning("the store cannot be written", said=tidy(words))
        return errors.OperationFailed(f"{action}: the store cannot be written: Read-only file system")
    return errors.OperationFailed(f"{action}: {tidy(_STORE.sub(_STORE_ITSELF, words))}")


def tidy(words: str, secrets: Secrets = NO_SECRETS) -> str:
    """Return `words` without what changes from time to time and what nobody may read."""
    return readable(secrets.mask(words), _LENGTH_LIMIT)
