"""What a pull waits for, as it tells it: the registry, or the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from containers_storage.locks import locked
from containers_storage.opened import opened, until
from criimage.backend import Phase
from criimage.testing.oci import image, noise_layer
from criimage.testing.scripted_registry import Hang, Stage, scripted_registry
from criimage_containers_storage.pulling import progress
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from containers_storage.opened import Opened

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

FIRST, SECOND = image(noise_layer(50_000)), image(noise_layer(50_000, seed=1))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at often."""
    monkeypatch.setattr(progress, "_SECONDS", 0.02)


def phase(under_test: Opened) -> Phase | None:
    """What was told last."""
    return under_test.reports[-1].phase if under_test.reports else None


def twenty_without_the_store(under_test: Opened, start: int) -> bool:
    """Whether the last twenty reports, of those behind the first ones, do not blame it."""
    last = under_test.reports[start:][-20:]
    return len(last) == 20 and Phase.WAITING_FOR_STORE not in {one.phase for one in last}


@pytest.mark.parametrize("lock", ["layers", "images"])
async def test_a_lock_that_others_hold_is_no_silence_of_the_registry(lock: str) -> None:
    """Skopeo waits for it without a word; told is that the store keeps the pull waiting, until it is free (B8)."""
    with registry() as hub, store() as local:
        async with opened(local) as under_test:
            await under_test.pull(hub.push(FIRST, "first", "1"))
            with locked(local.root / f"overlay-{lock}/{lock}.lock"):
                task = asyncio.create_task(under_test.pull(hub.push(SECOND, "second", "1")))
                await asyncio.to_thread(until, lambda: phase(under_test) is Phase.WAITING_FOR_STORE)
                seen = len(under_test.reports)
                await asyncio.to_thread(until, lambda: len(under_test.reports) > seen + 10)
                assert {one.phase for one in under_test.reports[seen:]} == {Phase.WAITING_FOR_STORE}
            await task
            assert under_test.reports[-1].phase is Phase.DONE


async def test_a_deletion_of_ours_is_told_as_well() -> None:
    """A pull that waits for a removal which the store keeps waiting says so (B8)."""
    with registry() as hub, store() as local:
        async with opened(local) as under_test:
            access = under_test.backend._opening.value.puller._access  # type: ignore[attr-defined]
            first = hub.push(FIRST, "first", "1")
            await under_test.pull(first)
            with locked(local.root / "overlay-layers/layers.lock"):
                removal = asyncio.create_task(under_test.remove(first))
                await asyncio.to_thread(until, lambda: not access._no_deletion.is_set())
                task = asyncio.create_task(under_test.pull(hub.push(SECOND, "second", "1")))
                await asyncio.to_thread(until, lambda: phase(under_test) is Phase.WAITING_FOR_STORE)
            await asyncio.gather(removal, task)
            assert [str(tag) for one in await under_test.backend.images() for tag in one.tags] == [
                f"{hub.address}/second:1"
            ]


async def test_a_registry_that_hangs_is_not_the_store() -> None:
    """While the registry is silent nothing else is blamed (B8, P15)."""
    with scripted_registry() as hub, store() as local:
        async with opened(local) as under_test:
            await under_test.pull(hub.put(FIRST, "first", "1"))
            done = len(under_test.reports)
            hub.script(Stage.LAYER, Hang(after=1000))
            task = asyncio.create_task(under_test.pull(hub.put(SECOND, "second", "1")))
            await asyncio.to_thread(until, lambda: hub.open(Stage.LAYER))
            # Before it asked it may have waited for the store, or its disk, for longer than one look.
            await asyncio.to_thread(until, lambda: twenty_without_the_store(under_test, done))
            task.cancel()
            await asyncio.wait({task})
