"""StreamImages (CRI 1.36): the list in pieces, for nodes with more images than one message holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.conformance.client import CallError, Status

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_streaming = group("streaming", Need.STREAMING)
_any = group("streaming")


@_streaming.required(
    "M1",
    "Each image comes exactly once.",
    why="A kubelet puts the pieces together without looking.",
    source="cri-protocol 1.1, StreamImages; KEP-5825",
)
async def each_image_once(t: Trial) -> None:
    for _ in range(3):
        await t.pulled()
    ids = [image.id for part in await t.client.stream() for image in part]
    t.equal(len(ids), len(set(ids)), "the number of images, as of different IDs,")


@_streaming.required(
    "M2",
    "What was pulled is in the stream as it is in the list.",
    why="A kubelet uses one or the other, and expects the same.",
    source="KEP-5825",
)
async def the_same_as_the_list(t: Trial) -> None:
    made = await t.pulled(None, "1", "2")
    await t.client.pull(made.names[1])
    image_id = (await t.present(made.name)).id
    listed = await t.listed(image_id)
    streamed = [image for part in await t.client.stream() for image in part if image.id == image_id]
    t.expect(listed is not None, "it is in the list", "it is not")
    t.equal([bytes(image) for image in streamed], [bytes(listed or b"")], "the image in the stream")


@_streaming.required(
    "M3",
    "Each message has at least one image.",
    why="CRI says so; an empty message ends some readers.",
    source="cri-protocol 1.1, StreamImages",
)
async def no_empty_message(t: Trial) -> None:
    await t.pulled()
    t.expect(all(await t.client.stream()), "each message has an image", "one is empty")


@_streaming.extended(
    "M4",
    "A filter that matches nothing ends the stream with OK and no image.",
    why="No images means no message.",
    source="cri-protocol 1.1, StreamImages",
)
async def nothing_matches(t: Trial) -> None:
    await t.pulled()
    parts = await t.client.stream(f"{t.supply.host}/{t.supply.run}/m4/none:1")
    t.equal(sum(map(len, parts)), 0, "the number of images")


@_streaming.extended(
    "M5",
    "A filter streams what it lists.",
    why="The two have the same filter by contract.",
    source="cri-protocol 1.2, StreamImagesRequest",
)
async def a_filter_streams_what_it_lists(t: Trial) -> None:
    made, _ = await t.pulled(), await t.pulled()
    listed = [image.id for image in await t.client.images(made.name)]
    streamed = [image.id for part in await t.client.stream(made.name) for image in part]
    t.equal(streamed, listed, "the IDs in the stream, as in the list,")


@_any.required(
    "M6",
    "A service without StreamImages says UNIMPLEMENTED.",
    why="A kubelet falls back to ListImages only then.",
    source="cri-protocol 1.1, StreamImages",
)
async def otherwise_unimplemented(t: Trial) -> None:
    try:
        await t.client.stream()
    except CallError as error:
        t.equal(error.status, Status.UNIMPLEMENTED, "the code of a service without it")
