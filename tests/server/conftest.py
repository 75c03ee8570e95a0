"""What all tests of the server share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from blockbuster import blockbuster_ctx

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A call that blocks the event loop, made by criimage while it runs, raises."""
    with blockbuster_ctx("criimage"):
        yield


@pytest.fixture(autouse=True)
def events() -> Iterator[list[MutableMapping[str, Any]]]:
    """Everything that is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured
