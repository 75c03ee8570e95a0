"""crictl, critest, grpcurl and a kubelet, where the set-up has built them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from parts.missing import lacking
from setup.clients import CLIENTS, CRICTL, CRITEST, GRPCURL, KUBELET

if TYPE_CHECKING:
    from pathlib import Path


def crictl() -> Path:
    """The path of crictl; skips or fails the running test where it is not there."""
    return _client(CRICTL)


def critest() -> Path:
    """The path of critest; skips or fails the running test where it is not there."""
    return _client(CRITEST)


def grpcurl() -> Path:
    """The path of grpcurl; skips or fails the running test where it is not there."""
    return _client(GRPCURL)


def kubelet() -> Path:
    """The path of a kubelet; skips or fails the running test where it is not there."""
    return _client(KUBELET)


def _client(name: str) -> Path:
    path = CLIENTS[name].path
    if not path.exists():
        # Without any Go there is no way to build it, and CI has nothing to repair.
        lacking(f"{name} is not built: `make test` builds it, with Go", also_in_ci=shutil.which("go") is not None)
    return path
