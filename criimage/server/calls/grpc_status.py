"""The one table from a failure's kind to what a client sees.

A pull fails with UNKNOWN whatever the reason, because kubelet strips only that code from the text it shows, and looks
for two reasons at its very start (cri-protocol 2.4).
"""

from __future__ import annotations

from grpclib.const import Status

from criimage import errors

__all__ = ["STATUSES", "status_of"]

STATUSES: dict[type[errors.CriimageError], tuple[Status, str]] = {
    errors.InvalidRequest: (Status.INVALID_ARGUMENT, ""),
    errors.ImageInUse: (Status.FAILED_PRECONDITION, ""),
    errors.ReadOnlyImage: (Status.FAILED_PRECONDITION, ""),
    errors.BackendUnavailable: (Status.UNAVAILABLE, ""),
    errors.RegistryUnavailable: (Status.UNKNOWN, "RegistryUnavailable: "),
    errors.SignatureRejected: (Status.UNKNOWN, "SignatureValidationFailed: "),
    errors.CriimageError: (Status.UNKNOWN, ""),
}
"""Kind to code and the beginning of the text; a kind that is not named has its nearest ancestor's."""

_BYTES_LIMIT = 2500
"""Of a text in UTF-8; encoded for the header it is three times as long at most, and clients limit headers to 8 KiB."""


def status_of(error: errors.CriimageError) -> tuple[Status, str]:
    """Return the gRPC status and message of a failure."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            status, beginning = STATUSES[kind]
            text = beginning + " ".join(error.text.split())
            return status, text.encode("utf-8", "replace")[:_BYTES_LIMIT].decode("utf-8", "ignore")
    raise AssertionError  # CriimageError itself is in the table
