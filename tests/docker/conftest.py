"""Three real engines, each started once; every test begins with an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parts.engine import Engine, Kind, engine
from parts.registry import Registry, registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", params=list(Kind), ids=lambda kind: kind.value)
def running_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine(request.param) as running:
        yield running


@pytest.fixture
def docker(running_engine: Engine) -> Engine:
    running_engine.clear()
    return running_engine


@pytest.fixture(scope="session")
def running_registry() -> Iterator[Registry]:
    with registry() as running:
        yield running


@pytest.fixture
def hub(running_registry: Registry) -> Registry:
    """A real registry; tests name their repositories after themselves."""
    return running_registry
