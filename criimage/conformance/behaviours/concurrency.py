"""Several calls at once, as a node that starts makes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.conformance.client import CallError, auth_of
from criimage.conformance.supply import PASSWORD, USER
from criimage.testing.scripted_registry import Hang, Stage

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_concurrency = group("concurrency")
_PATIENCE = 10.0


@_concurrency.required(
    "Q1",
    "Eight equal pulls at once all succeed with one answer.",
    why="A kubelet that pulls in parallel does not merge them.",
    source="cri-protocol 2.4",
)
async def equal_pulls(t: Trial) -> None:
    made = await t.publish()
    references = await asyncio.gather(*(t.client.pull(made.name) for _ in range(8)))
    t.equal(len(set(references)), 1, "the number of different answers")
    await t.present(made.name)


@_concurrency.extended(
    "Q2",
    "Equal pulls at once fetch a layer once.",
    why="A node that starts asks for the same image for many pods.",
    source="cri-o P13",
    needs=Need.SCRIPTED,
)
async def equal_pulls_share(t: Trial) -> None:
    made, later = await t.publish(), await t.publish()
    hang = t.supply.hub.script(Stage.LAYER, Hang(), repository=made.path)
    pulls = [asyncio.create_task(t.client.pull(made.name)) for _ in range(4)]
    try:
        await t.soon(lambda: hang.reached or all(one.done() for one in pulls), "a layer is asked for", 20)
        # Where a pull that begins now is through, those before it are at their layers, however busy the machine is. A
        # service that pulls one at a time lets it wait, and that is not what is asked here.
        pulls.append(asyncio.create_task(t.client.pull(later.name)))
        await asyncio.wait(pulls[-1:], timeout=_PATIENCE)
        hang.release()
        await asyncio.gather(*pulls)
    finally:
        for one in pulls:
            one.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
    t.equal(len(t.supply.hub.asked(Stage.LAYER, repository=made.path)), 1, "the number of times a layer was asked for")


@_concurrency.required(
    "Q3",
    "Different pulls at once all succeed.",
    why="maxParallelImagePulls.",
    source="cri-protocol 2.4",
)
async def different_pulls(t: Trial) -> None:
    made = [await t.publish() for _ in range(6)]
    await asyncio.gather(*(t.client.pull(one.name) for one in made))
    for one in made:
        await t.present(one.name)


@_concurrency.required(
    "Q4",
    "Lists and statuses are answered while a pull hangs.",
    why="crictl waits for two seconds; a kubelet's loops wait for each other.",
    source="cri-protocol 3.1",
    needs=Need.SCRIPTED,
)
async def answers_beside_a_hanging_pull(t: Trial) -> None:
    there, made = await t.pulled(), await t.publish()
    hang = t.supply.hub.script(Stage.LAYER, Hang(), repository=made.path)
    async with t.pulling(made.name) as pull:
        await t.soon(lambda: hang.reached or pull.done(), "the pull asks for the layer", 20)
        async with t.within(_PATIENCE, "lists and statuses are answered"):
            for _ in range(3):
                await t.client.images()
                await t.present(there.name)
                await t.absent(made.name)


@_concurrency.required(
    "Q5",
    "A hanging pull holds up no other pull.",
    why="One dead registry must not stop a node.",
    source="cri-protocol 2.4",
    needs=Need.SCRIPTED,
)
async def pulls_beside_a_hanging_pull(t: Trial) -> None:
    stuck, made = await t.publish(), await t.publish()
    hang = t.supply.hub.script(Stage.MANIFEST, Hang(), repository=stuck.path)
    async with t.pulling(stuck.name) as pull:
        await t.soon(lambda: hang.reached or pull.done(), "the pull asks for the manifest", 20)
        async with t.within(_PATIENCE, "another pull is complete"):
            await t.client.pull(made.name)
    await t.present(made.name)


@_concurrency.required(
    "Q6",
    "Of two callers at once with right and wrong credentials, only the right one succeeds.",
    why="An answer that is shared across credentials is a hole.",
    source="cri-protocol 2.5b; cri-o P13",
    needs=Need.SCRIPTED,
)
async def credentials_are_not_shared(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    calls = [
        t.client.pull(made.name, auth_of(USER, password))
        for password in (PASSWORD, "wrong-1", PASSWORD, "wrong-2", PASSWORD)
    ]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, CallError):
            raise error
    t.equal([isinstance(one, str) for one in ended], [True, False, True, False, True], "who succeeded")


@_concurrency.required(
    "Q7",
    "Pulls, lists, statuses and removals of many images at once neither fail nor disturb each other.",
    why="A node under disk pressure does all of it at once.",
    source="critest's benchmarks, cri-protocol 3.2",
)
async def everything_at_once(t: Trial) -> None:
    made = [await t.publish() for _ in range(6)]

    async def life(number: int) -> None:
        name = made[number].name
        for _ in range(2):
            await t.client.pull(name)
            image = await t.present(name)
            await t.client.images()
            await t.client.remove(image.id)
            await t.absent(name)

    await asyncio.gather(*(life(number) for number in range(len(made))))


@_concurrency.extended(
    "Q8",
    "A hundred statuses at once are all answered.",
    why="A kubelet that starts asks for every container's image.",
    source="cri-protocol 2.3",
)
async def many_statuses(t: Trial) -> None:
    made = await t.pulled()
    found = await asyncio.gather(*(t.client.status(made.name) for _ in range(100)))
    t.expect(all(one.image.id for one in found), "each finds the image", "some do not")
