"""What the runtime's words about a failed pull mean.

Its codes tell little: containerd has NotFound, FailedPrecondition and Unknown, CRI-O and cri-dockerd Unknown for
everything (peers-observed 2). The words come from three places: the runtime, its registry client (containerd's,
containers/image, or the engine's) and the registry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage import errors
from criimage.disk_failures import disk_failure
from criimage.foreign_text import keep_ends, without_chance
from criimage.masking import NO_SECRETS, Secrets
from criimage_cri.upstream import failure
from criimage_cri.words import STORE, tidy

if TYPE_CHECKING:
    from criimage.channel import CallError
    from criimage.reference import Reference

__all__ = ["is_in_use", "pull_failure"]

# Whatever may lie between two words has a bound, so that a long text costs no more than its length.
_KINDS: tuple[tuple[re.Pattern[str], type[errors.CriimageError]], ...] = tuple(
    (re.compile(words, re.IGNORECASE), kind)
    for words, kind in (
        # The runtime's own, first in the text.
        (r"^(rpc error: [^:]{0,100}: )?RegistryUnavailable\b", errors.RegistryUnavailable),
        (r"^(rpc error: [^:]{0,100}: )?SignatureValidationFailed\b", errors.SignatureRejected),
        # Not cancelled by us: then nobody would be reading. The runtime is going down.
        (r"context canceled$|transport is closing|grpc: the client connection is closing", errors.BackendUnavailable),
        (
            r"rejected by policy|signature required|signature for .{0,200} not accepted",
            errors.SignatureRejected,
        ),
        (
            r"status\b[^\"]{0,100}\b50[234]\b|\b50[234] (bad gateway|service unavailable|gateway time-?out)",
            errors.RegistryUnavailable,
        ),
        (
            (
                r"\bdial (tcp|udp)\b|connection refused|no such host|server misbehaving|i/o timeout|handshake timeout"
                r"|deadline exceeded|client\.timeout|timed out|connection reset|broken pipe|network is unreachable"
                r"|no route to host|: eof\b|gave http response to https|pinging container registry"
            ),
            errors.RegistryUnavailable,
        ),
        (
            r"no match(ing manifest)? for (linux|windows|platform)|no image found in (image index|manifest list)",
            errors.PlatformMissing,
        ),
        (r"toomanyrequests|too many requests|\bstatus\b[^\"]{0,100}\b429\b", errors.RateLimited),
        (
            (
                r"unauthorized|no basic auth credentials|authentication required|authorization failed"
                r"|insufficient_scope|invalid username/password|\bstatus\b[^\"]{0,100}\b401\b"
            ),
            errors.AccessDenied,
        ),
        (r"(?<!permission )denied|forbidden|\bstatus\b[^\"]{0,100}\b403\b", errors.AccessDenied),
        # A page in place of a manifest, which containerd then looks for under the page's digest.
        (r"\(text/html[^)]*\) from remote", errors.ContentInvalid),
        (
            r"manifest unknown|name unknown|repository name not known|not found|\bstatus\b[^\"]{0,100}\b404\b",
            errors.RemoteImageMissing,
        ),
        (
            (
                r"verification failed|does not match|don't match|mismatch|unexpected commit (digest|size)"
                r"|failed size validation|unexpected eof|invalid tar|invalid checksum|corrupt input|media ?type"
                r"|unsupported|unknown type|invalid character|failed to extract|applylayer|invalid rootfs"
                r"|failed to register layer|not supported"
            ),
            errors.ContentInvalid,
        ),
    )
)

_IN_USE = re.compile(r"\bin use\b|\bis being used\b|image used by|\bis using\b", re.IGNORECASE)


def pull_failure(error: CallError, reference: Reference, secrets: Secrets = NO_SECRETS) -> errors.CriimageError:
    """Return the error for a pull that the runtime refused or gave up.

    Args:
        error: as the channel raised it.
        reference: what was pulled.
        secrets: never to be seen in the text.
    """
    if not error.reached:
        return failure(error, secrets=secrets)
    failed = disk_failure(secrets.mask(error.text), STORE)
    if failed is not None:
        return failed.with_text(f"{failed.text}: {reference}")
    text = tidy(error.text, secrets) or "the runtime gave no reason"
    if str(reference) not in text and reference.path not in text:
        text = f"{text}: {reference}"
    # Names may spell anything, `denied` too: they are taken out before the words are looked at.
    plain = without_chance(keep_ends(error.text))
    for name in (str(reference), reference.repository, reference.path, f":{reference.tag}", f"/{reference.tag}"):
        plain = plain.replace(name, "…")
    for pattern, kind in _KINDS:
        if pattern.search(plain):
            return kind(text)
    if error.status in {Status.UNAVAILABLE, Status.CANCELLED, Status.UNIMPLEMENTED}:
        return failure(error, secrets=secrets)
    if error.status in {Status.UNAUTHENTICATED, Status.PERMISSION_DENIED}:
        return errors.AccessDenied(text)
    if error.status is Status.NOT_FOUND:
        return errors.RemoteImageMissing(text)
    return errors.PullError(text)


def is_in_use(error: errors.CriimageError) -> bool:
    """Tell whether the runtime refused to remove an image because something uses it."""
    return _IN_USE.search(error.text) is not None
