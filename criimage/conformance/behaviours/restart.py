"""What outlives the service, tried with a command that restarts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_restart = group("restart", Need.RESTART)


@_restart.required(
    "X1",
    "After a restart an image is there as it was.",
    why="Runtimes are upgraded under running pods.",
    source="cri-protocol 2.5a",
)
async def images_outlive_it(t: Trial) -> None:
    made = await t.pulled(None, "1", "2")
    await t.client.pull(made.names[1])
    before = bytes(await t.present(made.name))
    await t.restart()
    t.expect(bytes(await t.present(made.name)) == before, "the image is as it was", "it has changed")


@_restart.required(
    "X2",
    "After a restart a pull of the image answers what it answered before.",
    why="A kubelet's proofs of access are kept by that answer.",
    source="cri-protocol 2.5a",
)
async def references_outlive_it(t: Trial) -> None:
    made = await t.publish()
    before = await t.client.pull(made.name)
    await t.restart()
    t.equal(await t.client.pull(made.name), before, "image_ref after the restart")


@_restart.required(
    "X3",
    "A removed image stays removed.",
    why="Freed space that fills again is an eviction that did not help.",
    source="cri-protocol 1.1, RemoveImage",
)
async def removals_outlive_it(t: Trial) -> None:
    made = await t.pulled()
    await t.client.remove((await t.present(made.name)).id)
    await t.restart()
    await t.absent(made.name)
