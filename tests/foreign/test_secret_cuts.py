"""Claim: a registry that puts a secret where a backend cuts its words shows no part of it (issue 8, item 5).

The whole way, with a registry that does it, is attack/cases/secrets.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from grpclib.const import Status

from criimage.channel import CallError
from criimage.credentials import Credentials
from criimage.foreign_text import DOOR_LIMIT
from criimage.masking import Secrets
from criimage.reference import Reference
from criimage_containers_storage.pulling.failures import pull_failure as of_skopeo
from criimage_containers_storage.pulling.process import Outcome
from criimage_cri.failures import pull_failure as of_runtime
from criimage_docker.pulling.failures import pull_failure as of_engine

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "Corridor/rectangle+horseshoe.battery-Staple"  # noqa: S105 - of nobody
SECRETS = Secrets.of(Credentials("bob", SECRET))
NAME = Reference.parse("reg.example:5000/team/app:1")
HALF = (DOOR_LIMIT - 1) // 2


def _skopeo(words: str) -> str:
    return of_skopeo(Outcome(1, b"", f'time="x" level=fatal msg="{words}"\n'), "x", secrets=SECRETS).text


def _skopeo_without_a_level(words: str) -> str:
    return of_skopeo(Outcome(1, b"", words), "x", secrets=SECRETS).text


def _helper(words: str) -> str:
    return _skopeo(f"getting username and password: error getting credentials - err: {words}")


def _policy(words: str) -> str:
    return _skopeo(f"Error loading trust policy: {words}")


def _engine(words: str) -> str:
    return of_engine(words, NAME, secrets=SECRETS).text


def _runtime(words: str, status: Status = Status.UNKNOWN) -> str:
    return of_runtime(CallError(status, words, reached=True), NAME, SECRETS).text


def _runtime_in_vain(words: str) -> str:
    return _runtime(words, Status.UNAVAILABLE)


WAYS = (_skopeo, _skopeo_without_a_level, _helper, _policy, _engine, _runtime, _runtime_in_vain)


def _parts(shown: str, size: int = 6) -> list[str]:
    return [part for start in range(len(SECRET) - size + 1) if (part := SECRET[start : start + size]) in shown]


@pytest.mark.parametrize("way", WAYS)
def test_no_part_is_shown(way: Callable[[str], str]) -> None:
    """At the cut of the door, where spaces before it bring it near the beginning, and at those of a shorter text."""
    with structlog.testing.capture_logs() as logged:
        for shift in range(0, len(SECRET) + 2, 4):
            assert _parts(way(" " * (HALF - shift) + SECRET + " " * DOOR_LIMIT)) == [], shift
            assert _parts(way("x" * DOOR_LIMIT + SECRET + " " * (HALF - shift))) == [], shift
        for before in range(0, 1000, 7):
            shown = way("x" * before + SECRET + "y" * 1000)
            assert _parts(shown) == [], before
    assert _parts(repr(logged)) == []


@pytest.mark.parametrize("way", WAYS)
def test_all_of_it_is_not_shown(way: Callable[[str], str]) -> None:
    """The same secret in the midst of a text, whatever the status or the first words make of it."""
    assert "said …" in way(f"said {SECRET} here")
