"""One failure that Go's HTTP client words in two ways is one kind and one text, for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from containers_storage.test_failures import fatal
from criimage.channel.calls import CallError
from criimage.reference import Reference
from criimage_containers_storage.pulling import failures as skopeo
from criimage_cri import failures as runtime
from criimage_docker.pulling import failures as engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.errors import CriimageError

IMAGE = Reference.parse("reg.example:5000/team/app:1")
ASKED = 'pinging container registry reg.example:5000: Get "https://reg.example:5000/v2/": '
FAILURES = (
    "remote error: tls: certificate required",
    "EOF",
    "read tcp 10.0.0.2:41234->10.0.0.1:5000: read: connection reset by peer",
    "http: server gave HTTP response to HTTPS client",
    "x509: certificate has expired or is not yet valid: current time is after 2026-01-01",
    "Proxy Authentication Required",
    "proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused",
)
BEFORE = ("readLoopPeekFailLocked: ", "net/http: HTTP/1.x transport connection broken: ")
INSTEAD = {
    "EOF": "http: server closed idle connection",
    "http: server gave HTTP response to HTTPS client": "tls: first record does not look like a TLS handshake",
}
BACKENDS: dict[str, Callable[[str], CriimageError]] = {
    "containers-storage": lambda words: skopeo.pull_failure(fatal(words), str(IMAGE)),
    "docker": lambda words: engine.pull_failure(words, IMAGE),
    "cri": lambda words: runtime.pull_failure(CallError(Status.UNKNOWN, words), IMAGE),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("failure", FAILURES)
def test_chance_changes_nothing(backend: str, failure: str) -> None:
    """The client's own words before a failure, or its other words for it, change neither kind nor text (E1, P14)."""
    usual = BACKENDS[backend](ASKED + failure)
    others = [before + failure for before in BEFORE]
    if failure in INSTEAD:
        others.append(INSTEAD[failure])
    for other in others:
        error = BACKENDS[backend](ASKED + other)
        assert (type(error), error.text) == (type(usual), usual.text)
