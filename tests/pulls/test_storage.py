"""Pulls on containers-storage, with a real skopeo and a real store (issue 5, it must show)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened
from parts.store import store
from pulls import scenarios
from pulls.scenarios import HANGS
from pulls.standing import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.testing.scripted_registry import Hang, Stage
    from pulls.conftest import Measured

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]


DRIVERS = pytest.mark.parametrize("driver", ["overlay", "vfs"])


@asynccontextmanager
async def storage(driver: str = "overlay") -> AsyncIterator[Place]:
    """The backend on an empty store."""
    with store(driver=driver) as local:
        async with opened(local) as under_test:

            def leftovers() -> list[str]:
                return [str(path) for path in local.tmp.glob("*/*") if path.name != "lock"]

            yield Place(under_test.backend, leftovers)


async def test_equal_pulls_cost_one_download() -> None:
    """P13, seen at the registry."""
    await scenarios.equal_pulls_cost_one_download(storage)


async def test_the_first_caller_leaves() -> None:
    """P13: the others get what it began."""
    await scenarios.the_first_caller_leaves(storage)


@DRIVERS
async def test_all_callers_leave(driver: str, measured: Measured) -> None:
    """P14, T14: skopeo ends, its files are gone, the store is as before."""
    took = await scenarios.all_callers_leave(lambda: storage(driver))
    measured(f"{took:.3f} s until the registry saw the connection end")


async def test_the_operator_ends_it() -> None:
    """`criimage pulls cancel` reaches skopeo."""
    await scenarios.the_operator_ends_it(storage)


@pytest.mark.parametrize(("stage", "hang"), HANGS, ids=lambda value: getattr(value, "value", str(value)))
async def test_a_hang_is_cut_off(stage: Stage, hang: Hang) -> None:
    """P15, T15: skopeo itself would wait for ever."""
    await scenarios.a_hang_is_cut_off(storage, stage, hang)


async def test_a_trickle_is_not_cut_off(measured: Measured) -> None:
    """T13: bytes are seen in skopeo's files as they come."""
    took, deadline = await scenarios.a_trickle_is_not_cut_off(storage)
    measured(f"{took:.1f} s, with a deadline of {deadline} s")


@DRIVERS
async def test_a_long_unpack_is_not_cut_off(driver: str, measured: Measured) -> None:
    """T13: no byte comes, but the process tree writes."""
    took, deadline = await scenarios.a_long_unpack_is_not_cut_off(lambda: storage(driver), 700 * 2**20)
    measured(f"{took:.1f} s after the last byte, with a deadline of {deadline} s")


@pytest.mark.parametrize("parallel", [0, 2])
async def test_ten_hung_registries_and_the_eleventh(parallel: int, measured: Measured) -> None:
    """Without and with a small limit in all."""
    took = await scenarios.ten_hung_registries_and_the_eleventh(storage, parallel)
    measured(f"the eleventh took {took:.2f} s")


@DRIVERS
async def test_figures_of_progress(driver: str) -> None:
    """T13: totals from the manifest less what is in layers.json."""
    await scenarios.figures_of_progress(lambda: storage(driver))


async def test_faults_are_told_apart() -> None:
    """One registry's trouble is its own."""
    await scenarios.faults_are_told_apart(storage)
