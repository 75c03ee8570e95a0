"""One attack of each kind; all of them are run by `make attack`."""

from __future__ import annotations

import pytest

from attack.__main__ import attacked
from attack.bystander import bystander
from attack.case import all_cases
from attack.target import BACKENDS, opened

FIRST = [case for case in all_cases() if case.first]


def test_every_kind_has_one_that_stands_for_it() -> None:
    """A kind that is added is in CI as well, and every attack has a name of its own."""
    assert {case.kind for case in FIRST} == {case.kind for case in all_cases()}
    assert len({(case.kind, case.name) for case in all_cases()}) == len(all_cases())


@pytest.mark.engine
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_server_holds(backend: str) -> None:
    """The attack gets its answers, another client all of its, the server lives on and ends well."""
    async with opened(backend) as target:
        with bystander(target.server.socket) as other:
            for case in FIRST:
                if backend == next(name for name in BACKENDS if name in (case.backends or BACKENDS)):
                    assert not await attacked(target, case), case.name
                    _, answered, failed = other.seen()
                    assert answered, case.name
                    assert not failed, case.name
