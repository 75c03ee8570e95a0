"""Claim: a full or read-only disk of the engine's or the runtime's is told plainly (issue 8, item 8).

The same of our own store is among those of attack/test_each_kind.py.
"""

from __future__ import annotations

import pytest

from attack.__main__ import attacked
from attack.case import all_cases
from attack.target import opened

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("backend", ["docker", "cri"])
async def test_what_a_disk_does_to_others_stores(backend: str) -> None:
    """No path of theirs and no word of their tools in the text; with the disk as before, all is well."""
    chosen = [case for case in all_cases() if case.kind == "disks" and backend in case.backends]
    async with opened(backend) as target:
        failed = {case.name: fault for case in chosen if (fault := await attacked(target, case))}
    assert failed == {}
    assert len(chosen) == 3
