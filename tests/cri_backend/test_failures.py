"""Claims: what a runtime says about a failed pull has a kind, and the same failure has the same text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage.channel import CallError
from criimage.credentials import Credentials
from criimage.errors import (
    AccessDenied,
    BackendUnavailable,
    ContentInvalid,
    CriimageError,
    OperationFailed,
    PlatformMissing,
    PullError,
    RateLimited,
    RegistryUnavailable,
    RemoteImageMissing,
    SignatureRejected,
    StorageFull,
)
from criimage.reference import Reference
from criimage.testing.oci import Config, image, noise_layer
from criimage.testing.scripted_registry import Answer, Auth, Change, Close, Stage, corrupted, scripted_registry
from criimage_cri.failures import pull_failure
from criimage_cri.upstream import failure
from parts.cri_backend import cri_backend, pull

if TYPE_CHECKING:
    from criimage.testing.scripted_registry import Act
    from parts.containerd import Containerd

X = Reference.parse("reg.example:5000/denied/app:429")
SECRETS = Credentials("me", "s3cret-canary")

CAUSES: list[tuple[str, Stage, Act, type[CriimageError]]] = [
    ("401", Stage.MANIFEST, Answer(401), AccessDenied),
    ("403", Stage.MANIFEST, Answer(403, b"<html><body>no</body></html>"), AccessDenied),
    ("404", Stage.MANIFEST, Answer(404), RemoteImageMissing),
    ("429", Stage.MANIFEST, Answer(429), RateLimited),
    ("500", Stage.MANIFEST, Answer(500), PullError),
    ("502", Stage.MANIFEST, Answer(502, b"<html><body>bad</body></html>"), RegistryUnavailable),
    ("503", Stage.MANIFEST, Answer(503), RegistryUnavailable),
    ("504", Stage.LAYER, Answer(504), RegistryUnavailable),
    ("closed before the manifest", Stage.MANIFEST, Close(), RegistryUnavailable),
    ("wrong bytes", Stage.LAYER, Change(corrupted), ContentInvalid),
    ("html for a manifest", Stage.MANIFEST, Answer(200, b"<html></html>"), ContentInvalid),
]


@pytest.mark.engine
@pytest.mark.parametrize(("stage", "act", "kind"), [cause[1:] for cause in CAUSES], ids=[cause[0] for cause in CAUSES])
async def test_containerd_says_what_happened(
    runtime: Containerd, stage: Stage, act: Act, kind: type[CriimageError]
) -> None:
    """By a registry that does it; twice the same text, nothing stored, and neither HTML nor a password in it."""
    with scripted_registry() as hub:
        name = hub.put(image(noise_layer(3000, seed=1)), "team/app", "1")
        hub.script(stage, act)
        errors = []
        async with cri_backend(runtime.endpoint) as backend:
            for _ in range(2):
                with pytest.raises(CriimageError) as failed:
                    await pull(backend, name, SECRETS)
                errors.append(failed.value)
            assert await backend.images() == ()
    first, second = errors
    assert type(first) is kind, first.text
    assert first.text == second.text
    assert "<html" not in first.text
    assert "s3cret-canary" not in first.text


@pytest.mark.engine
async def test_who_is_not_there_is_told(runtime: Containerd) -> None:
    """A refused connection, an unknown host, wrong credentials, and an image for other machines only."""
    foreign = image(noise_layer(3000, seed=1), config=Config(architecture="s390x"))
    with scripted_registry(auth=Auth.BASIC, accounts={"me": "right"}) as hub:
        from criimage.testing.oci import index

        hub.put(index(foreign), "team/app", "1")
        name = f"{hub.address}/team/app:1"
        cases = [
            ("127.0.0.1:1/team/app:1", None, RegistryUnavailable),
            ("reg.invalid/team/app:1", None, RegistryUnavailable),
            (name, None, AccessDenied),
            (name, SECRETS, AccessDenied),
            (name, Credentials("me", "right"), PlatformMissing),
            (f"{hub.address}/team/none:1", Credentials("me", "right"), RemoteImageMissing),
        ]
        async with cri_backend(runtime.endpoint) as backend:
            for asked, credentials, kind in cases:
                with pytest.raises(CriimageError) as failed:
                    await pull(backend, asked, credentials)
                assert type(failed.value) is kind, failed.value.text


SEEN: list[tuple[str, type[CriimageError]]] = [
    # CRI-O 1.36.
    ("RegistryUnavailable: pinging container registry reg.example:5000: connection refused", RegistryUnavailable),
    ("SignatureValidationFailed: Source image rejected: Running image is rejected by policy.", SignatureRejected),
    ("initializing source docker://X: reading manifest 429 in X: manifest unknown", RemoteImageMissing),
    ("initializing source docker://X: reading manifest 429 in X: unauthorized: authentication required", AccessDenied),
    ("unable to retrieve auth token: invalid username/password: unauthorized", AccessDenied),
    ('no image found in image index for architecture "amd64", variant "", OS "linux"', PlatformMissing),
    ('writing blob: storing blob to file "/var/tmp/storage1/2": no space left on device', StorageFull),
    ("received unexpected HTTP status: 503 Service Unavailable", RegistryUnavailable),
    # cri-dockerd 0.4.
    ("RegistryUnavailable: error parsing HTTP 502 response body", RegistryUnavailable),
    ("manifest for X not found: manifest unknown: manifest unknown", RemoteImageMissing),
    ("pull access denied for X, repository does not exist or may require 'docker login'", AccessDenied),
    ("toomanyrequests: You have reached your pull rate limit.", RateLimited),
    (
        'Get "https://reg.example:5000/v2/": dial tcp: lookup reg.example on 10.0.0.53:53: no such host',
        RegistryUnavailable,
    ),
    # containerd 1.6 and 2.
    ('failed to pull and unpack image "X": no match for platform in manifest: not found', PlatformMissing),
    ("failed to commit: unexpected commit digest sha256:a, expected sha256:b: failed precondition", ContentInvalid),
    ("failed to extract layer sha256:a: write /a: no space left on device: unknown", StorageFull),
    (
        'failed to resolve reference "X": unexpected status from HEAD request to http://r/v2/: 502 Bad Gateway',
        RegistryUnavailable,
    ),
    # containerd 2.1's transfer service.
    (
        (
            'failed to pull and unpack image "X": failed to resolve image: pull access denied, repository does not'
            " exist or may require authorization: authorization failed: no basic auth credentials"
        ),
        AccessDenied,
    ),
    (
        (
            'failed to pull and unpack image "X": failed to resolve image: unexpected status from HEAD request to'
            " http://r/v2/team/private/manifests/1: 401 Unauthorized"
        ),
        AccessDenied,
    ),
    ('failed to pull and unpack image "X": failed to resolve image: X: not found', RemoteImageMissing),
    (
        (
            'failed to pull and unpack image "X": failed to resolve image: failed to do request: Head'
            ' "https://r/v2/x/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused'
        ),
        RegistryUnavailable,
    ),
    ("something that nobody has seen", PullError),
]


@pytest.mark.parametrize(("words", "kind"), SEEN)
def test_words_have_kinds(words: str, kind: type[CriimageError]) -> None:
    """Whatever the names in them spell, which are `denied` and `429` here."""
    error = CallError(Status.UNKNOWN, words.replace("X", str(X)))
    failed = pull_failure(error, X)
    assert type(failed) is kind
    assert not failed.text.startswith(("RegistryUnavailable", "SignatureValidationFailed"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("manifest unknown", f"manifest unknown: {X}"),
        (f"{X}: manifest unknown", f"{X}: manifest unknown"),
        (f"{X.path}: manifest unknown", f"{X.path}: manifest unknown"),
        ("", f"the runtime gave no reason: {X}"),
    ],
)
def test_a_failure_says_once_which_image_it_was(words: str, told: str) -> None:
    """Whoever reads one in a log finds the name in it; the runtime's own words are not said twice."""
    assert pull_failure(CallError(Status.UNKNOWN, words), X).text == told


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CallError(Status.UNAVAILABLE, "cannot reach /run/x.sock: refused", reached=False), BackendUnavailable),
        (CallError(Status.UNAVAILABLE, "shutting down"), BackendUnavailable),
        (CallError(Status.UNIMPLEMENTED, "unknown service runtime.v1.ImageService"), BackendUnavailable),
        (CallError(Status.UNAUTHENTICATED, "go away"), AccessDenied),
        (CallError(Status.NOT_FOUND, "gone"), RemoteImageMissing),
    ],
)
def test_codes_count_where_words_say_nothing(error: CallError, kind: type[CriimageError]) -> None:
    """And what the channel itself says is about the runtime, not about a registry."""
    assert type(pull_failure(error, X)) is kind


def test_the_socket_of_a_runtime_that_does_not_answer_is_told() -> None:
    """A path of ours is what an operator looks for; those in a runtime's words are its own and change."""
    ours = CallError(Status.UNAVAILABLE, "cannot reach /run/x.sock: refused", reached=False)
    theirs = CallError(Status.UNAVAILABLE, "cannot open /run/x/1234")
    assert pull_failure(ours, X).text == "the container runtime does not answer: cannot reach /run/x.sock: refused"
    assert "1234" not in pull_failure(theirs, X).text


@pytest.mark.parametrize(
    "piece", ["status ", "dial ", "signature for ", "lookup a", "<html", "1.1.1.1:1->", "no match "]
)
def test_a_long_text_costs_no_more_than_its_length(piece: str) -> None:
    """Ten times the text takes no hundred times the work; what is looked at has an end anyway."""

    def cost(size: int) -> float:
        error = CallError(Status.UNKNOWN, (piece * size)[:size])
        costs = []
        for _ in range(10):
            # Of this thread, and the least: a collection of garbage may fall into any of them.
            begin = time.thread_time()
            pull_failure(error, X)
            costs.append(time.thread_time() - begin)
        return min(costs)

    cost(100)
    assert cost(16_000) < 30 * max(cost(1600), 0.0003)


def test_a_disk_that_is_full_is_told_as_that() -> None:
    """Whatever was asked of the runtime: that its store has no room is said in our words, with where it stands."""
    error = CallError(Status.UNKNOWN, "write /var/lib/x/content/ingest/1/data: no space left on device")
    found = failure(error)
    assert isinstance(found, OperationFailed)
    assert found.text == "the container runtime: no space left on device"
