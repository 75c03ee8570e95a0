"""What all tests of the relay share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from criimage import problems

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any


@pytest.fixture(autouse=True)
def events() -> Iterator[list[MutableMapping[str, Any]]]:
    """Everything that is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture(autouse=True)
def no_problem_stays() -> Iterator[None]:
    """A relay that has ended leaves no problem standing."""
    yield
    assert problems.standing() == {}
