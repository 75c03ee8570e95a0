"""Claim: frames that only the long way of calls understands are answered as HTTP/2 says, in the midst of the short one.

All of them, since each costs milliseconds; on one backend, since none is asked.
"""

from __future__ import annotations

import pytest

from attack.__main__ import attacked
from attack.case import all_cases
from attack.target import opened

pytestmark = pytest.mark.engine


async def test_sequences_of_frames() -> None:
    """What is legal is answered, what is not ends its stream or its connection with a code of the standard's."""
    chosen = [case for case in all_cases() if case.kind == "hot"]
    async with opened("memory") as target:
        failed = {case.name: fault for case in chosen if (fault := await attacked(target, case))}
    assert failed == {}
    assert len(chosen) > 50
