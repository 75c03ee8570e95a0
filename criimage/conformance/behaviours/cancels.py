"""Callers that give up, and what is left of what they asked for."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.conformance.client import CallError, Status
from criimage.testing import oci
from criimage.testing.scripted_registry import End, Hang, Stage, Trickle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.conformance.supply import Published
    from criimage.conformance.trial import Trial
    from criimage.testing.scripted_registry import Act, Script

_cancels = group("cancels")
_scripted = group("cancels", Need.SCRIPTED)
_START_SECONDS = 15.0
_STOP_SECONDS = 10.0
_SILENT = Hang(after=1000)
_SLOW = Trickle(1000, 0.1)
"""Three times as long as a download may go on."""
_ENOUGH = (3.0, 12.0)
"""To come as far as a layer, and on a busy node; shorter than `_SLOW` takes."""
_MORE_THAN_AT_ONCE = 4
"""Docker Engine and containerd download three layers at once."""


def _big(t: Trial) -> oci.Image:
    return oci.image(oci.noise_layer(300_000, seed=f"{t.supply.run} {t.number}"))


@asynccontextmanager
async def _in_a_layer(t: Trial, act: Act = _SILENT) -> AsyncIterator[tuple[Published, Script]]:
    """Let a pull come as far as the middle of a layer; when the block ends its caller goes away."""
    made = await t.publish(_big(t))
    script = t.supply.hub.script(Stage.LAYER, act, repository=made.path)
    async with t.pulling(made.name) as pull:
        await _comes_to_a_stand(t, script, pull)
        yield made, script


async def _comes_to_a_stand(t: Trial, script: Script, pull: asyncio.Task[str], before: int = 0) -> None:
    what = script.stage.value
    behind = f", after {before} that were cancelled," if before else ""
    await t.soon(lambda: script.reached or pull.done(), f"the pull asks for the {what}{behind}", _START_SECONDS)
    t.expect(not pull.done(), f"the pull waits for the {what}", "it has ended")


async def _is_read_no_more(t: Trial, made: Published, stage: Stage = Stage.LAYER) -> None:
    await t.soon(
        lambda: not [one for one in t.supply.hub.open(stage) if one.repository == made.path],
        "the connection to the registry is closed",
        _STOP_SECONDS,
    )
    fetched = [one for one in t.supply.hub.asked(stage, repository=made.path) if one.end is End.COMPLETE]
    t.expect(not fetched, f"the {stage.value} is not fetched to its end", "it is")


@_cancels.required(
    "D1",
    "A pull whose deadline passes is DEADLINE_EXCEEDED.",
    why="critest's time-out spec.",
    source="cri-protocol 3.2, should timeout",
)
async def a_deadline(t: Trial) -> None:
    made = await t.publish()
    await t.refused(t.client.pull(made.name, seconds=0.001), Status.DEADLINE_EXCEEDED, what="a pull with 1 ms")


@_scripted.required(
    "D2",
    "A pull whose caller goes away stops: the connection to the registry is closed.",
    why="A torn-down pod's download goes on for nobody, and takes the network of those who wait.",
    source="cri-protocol 2.3, PullImage",
)
async def a_cancel_stops_the_download(t: Trial) -> None:
    async with _in_a_layer(t, _SLOW) as (made, _):
        pass
    await _is_read_no_more(t, made)


@_scripted.required(
    "D3",
    "A cancelled pull leaves no image.",
    why="Half an image must not start.",
    source="cri-o P14",
)
async def a_cancel_leaves_nothing(t: Trial) -> None:
    async with _in_a_layer(t) as (made, _):
        pass
    await t.absent(made.name)


@_scripted.required(
    "D4",
    "After a cancelled pull the same image can be pulled.",
    why="The next pod wants it.",
    source="cri-o P14",
)
async def after_a_cancel_it_works(t: Trial) -> None:
    async with _in_a_layer(t) as (made, hang):
        pass
    hang.release()
    await t.client.pull(made.name)
    await t.present(made.name)


@_scripted.required(
    "D5",
    "When one of two callers goes away, the other gets its image.",
    why="Two pods, one of them deleted.",
    source="cri-o P13",
)
async def the_other_goes_on(t: Trial) -> None:
    made = await t.publish(_big(t))
    hang = t.supply.hub.script(Stage.LAYER, _SILENT, repository=made.path)
    async with t.pulling(made.name) as other:
        async with t.pulling(made.name) as gone:
            await t.soon(lambda: hang.reached or other.done() or gone.done(), "a pull asks for the layer", 20)
        hang.release()
        async with asyncio.timeout(30):
            await other
    await t.present(made.name)


@_scripted.required(
    "D6",
    "A pull whose deadline passes stops as well: nothing is stored afterwards.",
    why="Some services go on by themselves, and the image appears later for nobody.",
    source="peers-observed 2",
)
async def a_deadline_stops_the_download(t: Trial) -> None:
    made = await t.publish(_big(t))
    slow = t.supply.hub.script(Stage.LAYER, _SLOW, repository=made.path)
    for seconds in _ENOUGH:
        call = t.client.pull(made.name, seconds=seconds)
        await t.refused(call, Status.DEADLINE_EXCEEDED, what="a pull whose layer takes half a minute")
        if slow.reached:
            break
    t.expect(slow.reached, "the layer was asked for", f"it was not, within {_ENOUGH[-1]:g} s")
    await _is_read_no_more(t, made)
    slow.release()
    await asyncio.sleep(0.5)
    await t.absent(made.name)


@_scripted.extended(
    "D7",
    "A hundred pulls that are cancelled leave a service that answers.",
    why="A crashing deployment does it for days.",
    source="python-stack 2",
)
async def many_cancels(t: Trial) -> None:
    made = await t.publish()
    hang = t.supply.hub.script(Stage.MANIFEST, Hang(), repository=made.path)
    pulls = [asyncio.create_task(t.client.pull(made.name, seconds=None)) for _ in range(100)]
    await t.soon(lambda: hang.reached or all(one.done() for one in pulls), "the manifest is asked for", 20)
    for one in pulls:
        one.cancel()
    await asyncio.gather(*pulls, return_exceptions=True)
    hang.release()
    await t.client.pull(made.name)
    await t.present(made.name)


@_cancels.extended(
    "D8",
    "Lists whose deadline passes do not disturb the next.",
    why="crictl waits for two seconds and asks again.",
    source="cri-protocol 3.1",
)
async def short_lists(t: Trial) -> None:
    made = await t.pulled()
    for _ in range(20):
        try:
            await t.client.send("/runtime.v1.ImageService/ListImages", b"", seconds=0.0005)
        except CallError as error:
            t.equal(error.status, Status.DEADLINE_EXCEEDED, "the code of a list whose deadline has passed")
    await t.present(made.name)


@_scripted.extended(
    "D9",
    "A pull whose caller goes away lets go of a registry that sends nothing, too.",
    why="A dead registry's connections and the work behind them pile up for nobody.",
    source="dockershim P20",
)
async def a_silent_registry_is_let_go(t: Trial) -> None:
    for stage, act in ((Stage.MANIFEST, Hang()), (Stage.LAYER, _SILENT)):
        made = await t.publish(_big(t))
        script = t.supply.hub.script(stage, act, repository=made.path)
        async with t.pulling(made.name) as pull:
            await _comes_to_a_stand(t, script, pull)
        await _is_read_no_more(t, made, stage)
        script.release()


@_scripted.extended(
    "D10",
    "Cancelled pulls of layers that a registry never answered hold up no later pull, of these images or others.",
    why="One dead registry must not stop a node, least of all one that was given up.",
    source="dockershim P20, P21",
)
async def places_are_given_back(t: Trial) -> None:
    stuck = [await t.publish() for _ in range(_MORE_THAN_AT_ONCE)]
    for before, one in enumerate(stuck):
        hang = t.supply.hub.script(Stage.LAYER, Hang(), repository=one.path, times=1)
        async with t.pulling(one.name) as pull:
            await _comes_to_a_stand(t, hang, pull, before)
    async with t.within(_STOP_SECONDS, "another image is pulled, and then the first again"):
        await t.pulled()
        await t.client.pull(stuck[0].name)
    await t.present(stuck[0].name)
