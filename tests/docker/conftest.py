"""Real engines, each started once; every test begins with an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from blockbuster import blockbuster_ctx

import criimage_docker.backend  # noqa: F401 - importing blocks, and is over before a test begins
from criimage.testing.scripted_registry import Auth, ScriptedRegistry, scripted_registry
from criimage_docker.view import view
from parts.engine import KINDS, STABLE, Engine, Kind, engine
from parts.registry import Registry, registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class Scripted(Protocol):
    """Runs a registry that does as it is told."""

    def __call__(
        self, *, auth: Auth = Auth.NONE, accounts: dict[str, str] | None = None
    ) -> AbstractContextManager[ScriptedRegistry]:
        """Run one until the block is left."""


@pytest.fixture(scope="session", params=Kind, ids=lambda kind: kind.value)
def running_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine(request.param) as running:
        yield running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the newest engines but where a test asks for them."""
    left_out = [item for item in items if _kind(item) not in {None, *KINDS} and not _wants_newest(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _kind(item: pytest.Item) -> Kind | None:
    call = getattr(item, "callspec", None)
    kind = None if call is None else call.params.get("running_engine")
    return kind if isinstance(kind, Kind) and kind not in STABLE else None


def _wants_newest(item: pytest.Item) -> bool:
    return item.get_closest_marker("newest") is not None or item.get_closest_marker("long") is not None


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A call that blocks the event loop, made by the backend while it runs, raises."""
    with blockbuster_ctx("criimage_docker"):
        yield


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count what the engine is asked: nothing is asked again because some seconds have passed here."""
    monkeypatch.setattr(view, "_LAG", 3600.0)
    monkeypatch.setattr(view, "_EVENT_SECONDS", 60.0)


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


@pytest.fixture
def scripted() -> Scripted:
    return scripted_registry
