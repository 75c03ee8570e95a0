"""Claim: nothing of a call, a failed pull or a cancelled one stays, neither memory nor descriptors nor files."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from attack.life import FULL, Size, lived
from attack.target import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.engine


async def test_a_short_life_leaves_nothing() -> None:
    """The short form of what `make long` does: 3,000 calls, 24 failed and 16 cancelled pulls on a real store."""
    (await lived("containers-storage", Size(3000, 24, 16))).judge()


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_long_life_leaves_nothing(backend: str, long_run: Callable[[str, str], None]) -> None:
    """300,000 mixed calls, 2,000 failed and 1,000 cancelled pulls."""
    life = await lived(backend, FULL, 20)
    long_run(f"Linux {platform.release()}", f"{FULL.on(backend)}: {life}")
    life.judge()
