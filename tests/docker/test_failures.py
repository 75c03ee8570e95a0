"""What engines say about failed pulls, as it was seen, and what it means (docker P12-P16)."""

from __future__ import annotations

import pytest

from criimage.credentials import Credentials
from criimage.errors import (
    AccessDenied,
    BackendUnavailable,
    ContentInvalid,
    CriimageError,
    InvalidRequest,
    PlatformMissing,
    PullError,
    RateLimited,
    RegistryUnavailable,
    RemoteImageMissing,
    StorageFull,
)
from criimage.masking import Secrets
from criimage.reference import Reference
from criimage_docker.engine.words import tidy
from criimage_docker.pulling.auth import registry_auth
from criimage_docker.pulling.failures import pull_failure

X = Reference.parse("reg.example:5000/lib/busybox:1")

SEEN: list[tuple[str, type[CriimageError]]] = [
    # 20.10 and 26.1 with their graph drivers.
    ("manifest for reg.example:5000/lib/busybox:1 not found: manifest unknown: manifest unknown", RemoteImageMissing),
    (
        (
            "pull access denied for reg.example:5000/lib/busybox, repository does not exist or may require 'docker "
            "login': denied: requested access to the resource is denied"
        ),
        AccessDenied,
    ),
    ("unauthorized: authentication required", AccessDenied),
    ('Head "http://reg.example:5000/v2/lib/busybox/manifests/1": no basic auth credentials', AccessDenied),
    ("toomanyrequests: You have reached your pull rate limit.", RateLimited),
    ("received unexpected HTTP status: 502 Bad Gateway", RegistryUnavailable),
    ("received unexpected HTTP status: 503 Service Unavailable", RegistryUnavailable),
    ("received unexpected HTTP status: 504 Gateway Timeout", RegistryUnavailable),
    ("received unexpected HTTP status: 500 Internal Server Error", PullError),
    (
        'Get "http://reg.example:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused',
        RegistryUnavailable,
    ),
    (
        'Get "https://reg.example:5000/v2/": dial tcp: lookup reg.example on 10.0.0.53:53: no such host',
        RegistryUnavailable,
    ),
    (
        (
            'Get "https://reg.example:5000/v2/": net/http: request canceled while waiting for connection '
            "(Client.Timeout exceeded while awaiting headers)"
        ),
        RegistryUnavailable,
    ),
    ('Get "https://reg.example:5000/v2/": net/http: TLS handshake timeout', RegistryUnavailable),
    ("read tcp 10.0.0.2:41234->10.0.0.1:5000: read: connection reset by peer", RegistryUnavailable),
    ("filesystem layer verification failed for digest sha256:ab", ContentInvalid),
    ("no matching manifest for linux/amd64 in the manifest list entries", PlatformMissing),
    ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", StorageFull),
    ("failed to register layer: Error processing tar file(exit status 1): no space left on device", StorageFull),
    ("failed to register layer: archive/tar: invalid tar header", ContentInvalid),
    ("invalid reference format: repository name must be lowercase", InvalidRequest),
    ("context canceled", BackendUnavailable),
    # 26.1 with the containerd store.
    (
        'failed to resolve reference "reg.example:5000/lib/busybox:1": reg.example:5000/lib/busybox:1: not found',
        RemoteImageMissing,
    ),
    (
        (
            'failed to resolve reference "reg.example:5000/lib/busybox:1": failed to do request: Head '
            '"https://reg.example:5000/v2/lib/busybox/manifests/1": dial tcp 10.0.0.1:5000: connect: connection refused'
        ),
        RegistryUnavailable,
    ),
    (
        (
            'failed to resolve reference "reg.example:5000/lib/busybox:1": unexpected status from HEAD request to '
            "http://reg.example:5000/v2/lib/busybox/manifests/1: 502 Bad Gateway"
        ),
        RegistryUnavailable,
    ),
    ("no match for platform in manifest: not found", PlatformMissing),
    ("failed to copy: failed to send write: EOF: unknown", BackendUnavailable),
    (
        (
            'failed to resolve reference "x": pull access denied, repository does not exist or may require '
            "authorization: authorization failed: no basic auth credentials"
        ),
        AccessDenied,
    ),
    # Nobody's.
    ("something that nobody has ever seen", PullError),
    ("", PullError),
]


@pytest.mark.parametrize(("message", "kind"), SEEN)
def test_kinds(message: str, kind: type[CriimageError]) -> None:
    """P12, P15: by the words, since codes tell little; the text names the image and is what the engine said."""
    error = pull_failure(message, X)

    assert type(error) is kind
    assert "lib/busybox" in error.text
    assert "\n" not in error.text


@pytest.mark.parametrize("code", [502, 503, 504])
def test_codes_of_the_stream(code: int) -> None:
    """P13: these codes decide, whatever the words."""
    assert type(pull_failure("denied: whatever", X, code=code)) is RegistryUnavailable


@pytest.mark.parametrize("code", [0, 50, 401, 500])
def test_other_codes(code: int) -> None:
    """P13: no other does."""
    assert type(pull_failure("denied: whatever", X, code=code)) is AccessDenied
    assert type(pull_failure("whatever", X, code=code)) is PullError


def test_a_status_where_words_say_nothing() -> None:
    """P12: 26.1 says just "unknown" where a registry answers 404 with HTML; its own 404 still tells something."""
    assert type(pull_failure("unknown", X, status=404)) is RemoteImageMissing
    assert type(pull_failure("unknown", X, status=500)) is PullError
    # P13: an engine's own 502 is nobody's registry.
    assert type(pull_failure("unknown", X, status=502)) is PullError


HTML = '<!DOCTYPE html>\n<html><head><title>502</title></head><body><svg viewBox="0"/>' + "x" * 5000 + "</body></html>"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            f"error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: {HTML!r}",
            AccessDenied,
        ),
        (
            f"error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: {HTML!r}",
            RemoteImageMissing,
        ),
        (
            f"error parsing HTTP 429 response body: invalid character '<' looking for beginning of value: {HTML!r}",
            RateLimited,
        ),
        (
            f"error parsing HTTP 502 response body: invalid character '<' looking for beginning of value: {HTML!r}",
            RegistryUnavailable,
        ),
        (f'unexpected status: 503 Service Unavailable: "{HTML}"', RegistryUnavailable),
    ],
)
def test_html_is_cut_off(message: str, kind: type[CriimageError]) -> None:
    """P14: what is left is short and readable."""
    error = pull_failure(message, X)

    assert type(error) is kind
    assert "<" not in error.text
    assert len(error.text) < 150


@pytest.mark.parametrize(
    "name", ["denied/x:1", "unauthorized/toomanyrequests:latest", "a/b:denied", "x509/eof/50x:504"]
)
def test_names_do_not_count(name: str) -> None:
    """P12: a name that spells an error is no error."""
    reference = Reference.parse(f"reg.example:5000/{name}")
    message = f"manifest for {reference} not found: manifest unknown: manifest unknown"

    assert type(pull_failure(message, reference)) is RemoteImageMissing


def test_texts_are_stable() -> None:
    """cri-protocol 2.4: the same failure has the same text, whatever port the connection had."""
    first, second = (
        tidy(f'Get "https://r/v2/?service=x&scope=y{port}": read tcp 10.0.0.2:{port}->10.0.0.1:443: reset')
        for port in (1, 2)
    )

    assert first == second


@pytest.mark.parametrize("field", ["password", "identity_token", "registry_token"])
def test_every_part_of_the_credentials_is_masked(field: str) -> None:
    """T12: the password and both tokens, as they are and as they are sent; a planted fault had left the tokens out."""
    secret = "canary-Zq9vTx7Lw2"  # noqa: S105 - a canary
    credentials = Credentials("somebody", **{field: secret})
    sent = registry_auth(credentials, X.domain)
    error = pull_failure(f"denied: {secret} and {sent}", X, secrets=Secrets.of(credentials))

    assert secret not in error.text
    assert sent.strip("=")[8:-8] not in error.text
    assert "denied" in error.text


def test_a_long_answer_is_cut_before_it_is_read() -> None:
    """A text of any length costs bounded time: only its ends are looked at, and the kind is found there."""
    error = pull_failure("denied: " + "status " * 2_000_000 + "]:1", X)

    assert type(error) is AccessDenied
    assert len(error.text) < 300


def test_secrets_are_taken_out() -> None:
    """T12: a registry that repeats what it was sent does not make it public."""
    error = pull_failure("denied for user with password hunter2-canary", X, secrets=Secrets(["hunter2-canary"]))

    assert "hunter2" not in error.text
    assert "user" in error.text
    assert "pw" not in tidy('Get "https://me:pw@registry.example/v2/": EOF')
