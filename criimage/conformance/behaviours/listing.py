"""ListImages: what a kubelet keeps its picture of the node by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from criimage.conformance.behaviour import group
from criimage.conformance.trial import spelled

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_list = group("list")
_TAG = re.compile(r"[^\s/@]+(/[^\s/@]+)+:[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


@_list.required(
    "L1",
    "Every image in the list has an ID and a size.",
    why="Go clients take an empty ID or a size of 0 for an error, and garbage collection adds sizes up.",
    source="cri-protocol 1.2, Image",
)
async def every_image_has_an_id_and_a_size(t: Trial) -> None:
    await t.pulled()
    images = await t.client.images()
    t.expect(images, "the list has the image that was pulled", "it is empty")
    for image in images:
        t.expect(image.id, "every image has an ID", f"one with the tags {image.repo_tags} has none")
        t.expect(image.size > 0, "every image has a size", f"{image.id} has {image.size}")


@_list.required(
    "L2",
    "Every image is listed once.",
    why="A kubelet keeps its records by ID; two entries of one ID are removed twice and counted twice.",
    source="cri-protocol 1.2; dockershim S5",
)
async def every_image_is_listed_once(t: Trial) -> None:
    item = t.image()
    await t.pulled(item, "1", path="one")
    await t.pulled(item, "2", path="two")
    ids = [image.id for image in await t.client.images()]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    t.expect(not twice, "no ID is listed twice", f"these are: {twice}")


@_list.required(
    "L3",
    "A pulled image is in the next list.",
    why="A kubelet looks for it there; critest's Image Consistency asks for it.",
    source="cri-protocol 3.2",
)
async def a_pulled_image_is_in_the_next_list(t: Trial) -> None:
    # Before, so that a service that keeps its list has one to keep.
    await t.client.images()
    made = await t.pulled()
    tags = [tag for image in await t.client.images() for tag in image.repo_tags]
    t.expect(made.name in tags, f"{made.name} is among the listed tags")


@_list.required(
    "L4",
    "The list and a status show the same image: ID, tags, digests, size, pinned.",
    why="A kubelet compares what it has from one with what it has from the other.",
    source="cri-protocol 2.5",
)
async def list_and_status_agree(t: Trial) -> None:
    made = await t.pulled(None, "1", "2")
    await t.client.pull(made.names[1])
    status = await t.present(made.name)
    listed = await t.listed(status.id)
    if listed is None:
        t.expect(False, f"the list has the image {status.id}")
        return
    for field in ("repo_tags", "repo_digests", "size", "pinned"):
        t.equal(getattr(listed, field), getattr(status, field), f"{field} of the list entry, as in the status,")


@_list.required(
    "L5",
    "A filter with an empty name lists all images.",
    why="`crictl images` sends one whenever it is given no name.",
    source="cri-protocol 3.1",
)
async def an_empty_filter_lists_all(t: Trial) -> None:
    made = await t.pulled()
    tags = [tag for image in await t.client.images("") for tag in image.repo_tags]
    t.expect(made.name in tags, f"{made.name} is among the tags of a list with an empty filter")


@_list.extended(
    "L6",
    "A filter by name lists only the image that has it.",
    why="`crictl images NAME` prints whatever comes; it does not filter itself.",
    source="cri-protocol 3.1; dockershim L2; cri-o L3",
)
async def a_filter_by_name_lists_one(t: Trial) -> None:
    made, _ = await t.pulled(), await t.pulled()
    found = await t.client.images(made.name)
    t.equal([image.repo_tags for image in found], [[made.name]], "the tags of what is listed")


@_list.extended(
    "L7",
    "A filter by ID lists the image of that ID.",
    why="Tools look an image up by what they were given, an ID as often as a name.",
    source="design 4, list filter",
)
async def a_filter_by_id_lists_one(t: Trial) -> None:
    made, _ = await t.pulled(), await t.pulled()
    image_id = (await t.present(made.name)).id
    t.equal([image.id for image in await t.client.images(image_id)], [image_id], "what a filter by ID lists")


@_list.extended(
    "L8",
    "A filter by the beginning of an ID lists its image.",
    why="`crictl images` shows 13 digits of an ID; people copy them.",
    source="design 4, list filter",
)
async def a_filter_by_a_short_id_lists_one(t: Trial) -> None:
    made, _ = await t.pulled(), await t.pulled()
    image_id = (await t.present(made.name)).id
    found = await t.client.images(spelled(image_id)[0][:13])
    t.equal([image.id for image in found], [image_id], "what a filter by 13 digits lists")


@_list.extended(
    "L9",
    "A filter that matches nothing gives an empty list and no error.",
    why="`crictl images NAME` asks about images that are not there; an error looks like a broken node.",
    source="design 4, list filter",
)
async def a_filter_without_a_match_lists_nothing(t: Trial) -> None:
    await t.pulled()
    absent = f"{t.supply.host}/{t.supply.run}/l9/none:1"
    t.equal(len(await t.client.images(absent)), 0, "the number of images that a filter without a match lists")


@_list.extended(
    "L10",
    "An image that a filter finds comes with all its names.",
    why="Whoever removes what is listed has to see what goes with it.",
    source="dockershim L7",
)
async def a_match_has_all_its_names(t: Trial) -> None:
    made = await t.pulled(None, "1", "2")
    await t.client.pull(made.names[1])
    found = await t.client.images(made.name)
    t.equal([sorted(image.repo_tags) for image in found], [sorted(made.names)], "the tags of what the filter finds")


@_list.required(
    "L11",
    "Tags are complete names with a tag, digests complete names with a sha256 digest.",
    why="crictl prints `errorRepoTag` otherwise, and a kubelet matches whole names.",
    source="cri-protocol 1.2, Image",
)
async def names_are_complete(t: Trial) -> None:
    made = await t.pulled()
    image = await t.present(made.name)
    for tag in image.repo_tags:
        t.expect(_TAG.fullmatch(tag), "every tag is HOST/PATH:TAG", f"one is {tag!r}")
    for digest in image.repo_digests:
        t.expect(_DIGEST.fullmatch(digest), "every digest is HOST/PATH@sha256:HEX", f"one is {digest!r}")


@_list.extended(
    "L12",
    "The names of an image come in an order that does not change by itself.",
    why="A kubelet compares node statuses; names that change places are a change to it.",
    source="cri-protocol 3.2, all kinds of references",
)
async def the_order_of_names_is_stable(t: Trial) -> None:
    made = await t.pulled(None, "c", "a", "b")
    for name in made.names[1:]:
        await t.client.pull(name)
    image_id = (await t.present(made.name)).id
    orders = {tuple(found.repo_tags) for _ in range(10) if (found := await t.listed(image_id))}
    t.equal(len(orders), 1, "the number of orders in ten lists")


@_list.extended(
    "L13",
    "A filter by digest lists the image that has it.",
    why="Pods that are pinned to a digest are looked up by it.",
    source="design 4, list filter",
)
async def a_filter_by_digest_lists_one(t: Trial) -> None:
    made, _ = await t.pulled(), await t.pulled()
    image_id = (await t.present(made.name)).id
    t.equal([image.id for image in await t.client.images(made.by_digest)], [image_id], "what a filter by digest lists")
