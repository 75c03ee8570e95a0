"""A removal that the store does not let go on ends, tells why, and holds up nobody for longer."""

from __future__ import annotations

import asyncio

import pytest

from containers_storage.locks import locked, locks
from containers_storage.opened import opened
from criimage.backend import Phase, PullContext
from criimage.errors import RemovalCancelled, RemovalTimeout
from criimage.pulls.sharing import Pulls
from criimage.reference import Lookup, Name
from criimage.removals import Removals
from criimage.testing.oci import image, layer
from criimage.work import Work
from parts.registry import registry
from parts.serving import until
from parts.store import store

pytestmark = pytest.mark.engine


async def test_another_tools_lock_is_waited_for_no_longer_than_it_may_take() -> None:
    """At `remove_timeout` skopeo is gone, the image whole, and the pull that waited at the gate goes on.

    It is told as what it is: the store keeps it waiting. When the lock is free the next removal takes the image.
    """
    with registry() as hub, store() as local:
        first, second = (hub.push(image(layer({name: b"x"})), name) for name in ("first", "second"))
        async with opened(local) as under_test, Work() as work:
            await under_test.pull(first)
            removals, pulls = Removals(under_test.backend, work, 8.0), Pulls(under_test.backend, work)
            with locked(local.root / "overlay-images" / "images.lock"):
                removing = asyncio.create_task(removals.remove(Lookup.parse(first)))
                await until(lambda: any("->" in lock for lock in locks(local)))
                pulling = asyncio.create_task(pulls.pull(Name.parse(second), None, PullContext()))
                await until(lambda: [one.progress.phase for one in pulls.running()] == [Phase.WAITING_FOR_STORE])
                with pytest.raises(RemovalTimeout) as caught:
                    await removing
                waited = "removal cut off: waited for skopeo and the store's locks, not complete within 8s"
                assert caught.value.text == f"{waited}: {first}; the image is still there"
                await until(lambda: [one.progress.phase for one in pulls.running()] != [Phase.WAITING_FOR_STORE])
            await pulling
            assert len(await under_test.backend.images()) == 2
            await removals.remove(Lookup.parse(first))
            assert await under_test.status(first) is None
            assert await under_test.status(second) is not None


async def test_the_operator_ends_one_that_waits_for_a_lock() -> None:
    """What it waits for can be seen before; afterwards no process of it is left, and the image is whole."""
    with registry() as hub, store() as local:
        name = hub.push(image(layer({"a": b"x"})), "app")
        async with opened(local) as under_test, Work() as work:
            pulled = await under_test.pull(name)
            removals = Removals(under_test.backend, work)
            with locked(local.root / "overlay-images" / "images.lock"):
                removing = asyncio.create_task(removals.remove(Lookup.parse(name)))
                await until(lambda: any("->" in lock for lock in locks(local)))
                (seen,) = removals.running()
                assert (seen.image_id, seen.waiting_for) == (str(pulled.id), "skopeo and the store's locks")
                assert removals.cancel(seen.id)
                with pytest.raises(RemovalCancelled, match=r"; the image is still there$"):
                    await removing
                assert not any("->" in lock for lock in locks(local))
            assert await under_test.backend.images() == (pulled,)
