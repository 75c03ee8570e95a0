"""v1alpha2, which kubelets up to 1.25 and old tools speak: the same images by the older names of the methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import betterproto

from criimage.conformance.behaviour import Need, group
from criimage.conformance.client import CallError, Status

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_old = group("v1alpha2", Need.V1ALPHA2)
_any = group("v1alpha2")
_API = "v1alpha2"


@_old.required(
    "A1",
    "It pulls, and answers a reference that finds the image.",
    why="Old kubelets start containers with it.",
    source="cri-protocol 2.5",
)
async def it_pulls(t: Trial) -> None:
    made = await t.publish()
    reference = await t.client.pull(made.name, api=_API)
    found = (await t.client.status(reference, api=_API)).image
    t.expect(found.id, f"ImageStatus of {reference} finds the image", "it finds nothing")


@_old.required(
    "A2",
    "A status shows what v1 shows.",
    why="There is one store.",
    source="cri-protocol 1.2",
)
async def status_is_the_same(t: Trial) -> None:
    made = await t.pulled()
    old = (await t.client.status(made.name, api=_API)).image
    t.expect(bytes(old) == bytes(await t.present(made.name)), "v1alpha2 and v1 show the same image", "they differ")


@_old.required(
    "A3",
    "A list has what was pulled.",
    why="There is one store.",
    source="cri-protocol 1.2",
)
async def list_has_it(t: Trial) -> None:
    made = await t.pulled()
    tags = [tag for image in await t.client.images(api=_API) for tag in image.repo_tags]
    t.expect(made.name in tags, f"{made.name} is among the listed tags")


@_old.required(
    "A4",
    "A removal removes, also for v1.",
    why="There is one store.",
    source="cri-protocol 1.2",
)
async def it_removes(t: Trial) -> None:
    made = await t.pulled()
    await t.client.remove((await t.present(made.name)).id, api=_API)
    await t.absent(made.name)


@_old.required(
    "A5",
    "Disk usage has an image file system with `used_bytes`.",
    why="Old kubelets end without it too.",
    source="cri-protocol 2.8",
)
async def usage_is_there(t: Trial) -> None:
    found = (await t.client.usage(api=_API)).image_filesystems
    t.expect(found and betterproto.serialized_on_wire(found[0].used_bytes), "used_bytes is set", "it is not")


@_old.required(
    "A6",
    "An absent image is no error.",
    why="As in v1.",
    source="cri-protocol 1.1",
)
async def absent_is_no_error(t: Trial) -> None:
    answer = await t.client.status(f"{t.supply.host}/{t.supply.run}/a6/none:1", api=_API)
    t.expect(not answer.image.id, "there is no image", f"there is {answer.image.id}")


@_any.required(
    "A7",
    "A service without it says UNIMPLEMENTED.",
    why="Clients that speak both try the other version only then.",
    source="cri-protocol 2.1",
)
async def otherwise_unimplemented(t: Trial) -> None:
    try:
        await t.client.usage(api=_API)
    except CallError as error:
        t.equal(error.status, Status.UNIMPLEMENTED, "the code of a service without it")
