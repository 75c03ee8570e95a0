"""Failures by situation: what happened to the image, not where the exception came from.

    CriimageError
    ├── InvalidRequest          the request itself is at fault; nothing was touched
    ├── ImageInUse              a container holds the image; nothing was removed
    ├── ReadOnlyImage           the image lies in a store that we may only read
    ├── BackendUnavailable      the engine or the upstream runtime does not answer
    ├── StorageFull             no space left where the image data goes
    ├── RemovalTimeout          our own deadline cut a removal off
    ├── RemovalCancelled        the operator or a stopping server ended a removal
    ├── OperationFailed         anything else that went wrong in a backend
    ├── ConfigurationError      settings or machine do not allow the backend to work at all
    └── PullError               a registry or its content is the reason
        ├── RegistryUnavailable refused, unknown host, time-out, 502, 503, 504
        ├── SignatureRejected   the machine's policy does not accept the image
        ├── AccessDenied        the registry wants other credentials
        ├── RemoteImageMissing  the registry does not have it
        ├── PlatformMissing     it has it, but not for this machine
        ├── RateLimited         the registry asks for patience
        ├── ContentInvalid      what came is not what the digests promise
        ├── PullTimeout         one of our own deadlines cut it off
        └── PullCancelled       the operator or a stopping server ended it

Backends raise only these. The server alone ties each kind to a gRPC status (criimage/server/calls/grpc_status.py).

The text is shown to users and compared by clients: kubelet joins the errors of several credentials and keeps a reason
only while the texts are equal (cri-protocol 2.4). So it carries no time, counter, process number, temporary path or
HTML, and never a secret.
"""

from __future__ import annotations

from typing import ClassVar, Self

__all__ = [
    "AccessDenied",
    "BackendUnavailable",
    "ConfigurationError",
    "ContentInvalid",
    "CriimageError",
    "ImageInUse",
    "InvalidRequest",
    "OperationFailed",
    "PlatformMissing",
    "PullCancelled",
    "PullError",
    "PullTimeout",
    "RateLimited",
    "ReadOnlyImage",
    "RegistryUnavailable",
    "RemoteImageMissing",
    "RemovalCancelled",
    "RemovalTimeout",
    "SignatureRejected",
    "StorageFull",
]


class CriimageError(Exception):
    """Base of every failure that criimage reports to a client.

    Args:
        text: one line for the person who asked, stable for the same situation.
    """

    kind: ClassVar[str] = "internal"
    """Short name for metrics and logs; one per class, never a user's text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def for_another_waiter(self) -> Self:
        """Return an equal error that may be raised in another task.

        One exception object raised in several tasks would collect all their tracebacks.
        """
        # Not by `copy`: a class may be made of something else than its text.
        twin = type(self).__new__(type(self), *self.args)
        vars(twin).update(vars(self))
        twin.__cause__ = self.__cause__
        twin.__traceback__ = None
        return twin

    def with_text(self, text: str) -> Self:
        """Return an error of the same kind and cause that says `text`."""
        twin = self.for_another_waiter()
        twin.args = (text,)
        twin.text = text
        return twin


class InvalidRequest(CriimageError):
    """The request cannot be right: malformed name, missing field, undecodable credentials. Nothing was touched."""

    kind = "invalid_request"


class ImageInUse(CriimageError):
    """A container uses the image. Nothing was removed, not even one of its names."""

    kind = "in_use"


class ReadOnlyImage(CriimageError):
    """The image lies in a read-only store and cannot be removed by us."""

    kind = "read_only"


class BackendUnavailable(CriimageError):
    """The daemon behind the backend does not answer. The same call may succeed later."""

    kind = "backend_unavailable"


class StorageFull(CriimageError):
    """No space was left. What had been written for this call is gone again."""

    kind = "storage_full"


class RemovalTimeout(CriimageError):
    """A removal took too long and was stopped. The text says what it waited for and what has become of the image."""

    kind = "removal_timeout"


class RemovalCancelled(CriimageError):
    """The operator, or a stopping server, ended a removal. The text says what has become of the image."""

    kind = "removal_cancelled"


class OperationFailed(CriimageError):
    """A backend's tool or daemon failed for a reason that has no kind of its own."""

    kind = "failed"


class ConfigurationError(CriimageError):
    """The settings, or what is installed, do not allow this. Meant for the operator.

    Args:
        text: one line for the operator, or one for each thing that is wrong.
        setting: the path of the key that it is about, if the text does not name its place itself.
    """

    kind = "configuration"

    def __init__(self, text: str, setting: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.setting = setting


class PullError(CriimageError):
    """A pull failed; the store holds what it held before."""

    kind = "pull_failed"


class RegistryUnavailable(PullError):
    """The registry cannot be reached or says that it cannot serve now."""

    kind = "registry_unavailable"


class SignatureRejected(PullError):
    """The signature policy of this machine does not accept the image."""

    kind = "signature_rejected"


class AccessDenied(PullError):
    """The registry refuses these credentials, or wants some."""

    kind = "access_denied"


class RemoteImageMissing(PullError):
    """The registry has no such repository, tag or digest."""

    kind = "not_in_registry"


class PlatformMissing(PullError):
    """The image has no variant for this operating system and architecture."""

    kind = "no_platform"


class RateLimited(PullError):
    """The registry answers 429: it asks for patience, for longer than the pull could wait."""

    kind = "rate_limited"


class ContentInvalid(PullError):
    """Manifest, config or layers do not agree with their digests, or are of an unsupported type."""

    kind = "content_invalid"


class PullTimeout(PullError):
    """A deadline of ours ended the pull; the store holds what it held before."""

    kind = "timeout"


class PullCancelled(PullError):
    """The operator, or this server on its way down, ended the pull."""

    kind = "cancelled"
