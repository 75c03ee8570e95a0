"""RemoveImage: gone at once, with all names, and no error where there is nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.conformance.trial import spelled
from criimage.testing import oci

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_removal = group("removal")
_ABSENT = "0" * 64


@_removal.required(
    "R1",
    "After a removal by ID the image is in no list and no status.",
    why="critest's Image Consistency; a kubelet takes it for freed.",
    source="cri-protocol 1.1, RemoveImage",
)
async def gone_at_once(t: Trial) -> None:
    made = await t.pulled()
    image_id = (await t.present(made.name)).id
    t.expect(await t.listed(image_id) is not None, "the list has it before", "it is not listed")
    await t.client.remove(image_id)
    await t.absent(made.name, image_id, made.by_digest)
    t.expect(await t.listed(image_id) is None, "the list is without it", "it is listed")


@_removal.required(
    "R2",
    "A removal by ID removes every tag.",
    why="critest: removing one removes all; a kubelet removes by ID.",
    source="cri-protocol 1.1, RemoveImage",
)
async def every_tag_goes(t: Trial) -> None:
    made = await t.pulled(None, "1", "2", "3")
    for name in made.names[1:]:
        await t.client.pull(name)
    await t.client.remove((await t.present(made.name)).id)
    await t.absent(*made.names)


@_removal.extended(
    "R3",
    "A removal by tag removes the image with all its names.",
    why="CRI says that the image is removed, whatever it is called by.",
    source="cri-protocol 1.1; design 4, RemoveImage",
)
async def by_tag(t: Trial) -> None:
    made = await t.pulled(None, "1", "2")
    await t.client.pull(made.names[1])
    await t.client.remove(made.name)
    await t.absent(*made.names)


@_removal.extended(
    "R4",
    "A removal by digest removes the image.",
    why="`crictl rmi` takes one.",
    source="design 4, RemoveImage",
)
async def by_digest(t: Trial) -> None:
    made = await t.pulled()
    await t.client.remove(made.by_digest)
    await t.absent(made.name)


@_removal.extended(
    "R5",
    "A removal by the beginning of an ID removes the image.",
    why="`crictl rmi` is given what `crictl images` shows.",
    source="design 4, RemoveImage",
)
async def by_short_id(t: Trial) -> None:
    made = await t.pulled()
    await t.client.remove(spelled((await t.present(made.name)).id)[0][:13])
    await t.absent(made.name)


@_removal.required(
    "R6",
    "Removing an ID that is not there is no error, in both spellings, twice.",
    why="An error counts as a failed garbage collection, and is tried again for ever.",
    source="cri-protocol 2.7, 3.2 Idempotence",
)
async def an_absent_id(t: Trial) -> None:
    for text in (_ABSENT, _ABSENT, f"sha256:{_ABSENT}"):
        await t.client.remove(text)


@_removal.required(
    "R7",
    "Removing a name that is not there is no error.",
    why="Removal is idempotent by contract.",
    source="cri-protocol 1.1, RemoveImage",
)
async def an_absent_name(t: Trial) -> None:
    await t.client.remove(f"{t.supply.host}/{t.supply.run}/r7/none:1")


@_removal.required(
    "R8",
    "Five removals of one image at once all succeed.",
    why="critest's Image Consistency; crictl removes in parallel.",
    source="cri-protocol 3.2",
)
async def at_once(t: Trial) -> None:
    made = await t.pulled()
    image_id = (await t.present(made.name)).id
    await asyncio.gather(*(t.client.remove(image_id) for _ in range(5)))
    await t.absent(image_id, made.name)


@_removal.required(
    "R9",
    "A removed image can be pulled again.",
    why="A node that was short of space wants it back.",
    source="cri-o section 5",
)
async def pulled_again(t: Trial) -> None:
    made = await t.pulled()
    first = await t.present(made.name)
    await t.client.remove(first.id)
    await t.client.pull(made.name)
    t.equal((await t.present(made.name)).id, first.id, "the ID after the second pull")


@_removal.required(
    "R10",
    "An image that shares layers with a removed one stays whole.",
    why="Base images are shared by most images of a node.",
    source="cri-o section 5",
)
async def shared_layers_stay(t: Trial) -> None:
    shared = oci.layer({"shared": f"{t.supply.run} r10".encode()})
    one = await t.pulled(oci.image(shared, oci.layer({"one": b"1"})))
    two = await t.pulled(oci.image(shared, oci.layer({"two": b"2"})))
    before = await t.present(two.name)
    await t.client.remove((await t.present(one.name)).id)
    t.expect(bytes(await t.present(two.name)) == bytes(before), "the other image is as it was", "it has changed")


@_removal.extended(
    "R11",
    "A removal takes an ID with `sha256:` and without.",
    why="Runtimes write IDs in both ways, and people copy from either.",
    source="peers-observed 2",
)
async def both_spellings(t: Trial) -> None:
    for number in (0, 1):
        made = await t.pulled(t.image(str(number)), "1")
        await t.client.remove(spelled((await t.present(made.name)).id)[number])
        await t.absent(made.name)


@_removal.required(
    "R12",
    "Another image keeps its names when one is removed.",
    why="A wrong image that goes is a node that breaks.",
    source="cri-protocol 1.1, RemoveImage",
)
async def others_stay(t: Trial) -> None:
    gone, stays = await t.pulled(None, "1", path="same"), await t.pulled(None, "2", path="same")
    await t.client.remove((await t.present(gone.name)).id)
    await t.present(stays.name)


@_removal.required(
    "R13",
    "A removal without an image is refused, and nothing is removed.",
    why="Whoever forgets it must not remove anything, nor end the service.",
    source="peers-observed 2",
    needs=Need.HOSTILE,
)
async def without_an_image(t: Trial) -> None:
    made = await t.pulled()
    await t.refused(t.client.send("/runtime.v1.ImageService/RemoveImage", b""), what="the removal")
    await t.present(made.name)
