"""The same call again: each is repeated, and nothing but the first changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.conformance.behaviour import group

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_idempotence = group("idempotence")
_TIMES = 4


@_idempotence.required(
    "I1",
    "Pulling again answers the same and changes nothing.",
    why="imagePullPolicy Always pulls at each start of a container.",
    source="cri-protocol 2.5a",
)
async def pulls(t: Trial) -> None:
    made = await t.publish()
    references = [await t.client.pull(made.name) for _ in range(_TIMES)]
    t.equal(len(set(references)), 1, "the number of different answers")
    first = bytes(await t.present(made.name))
    await t.client.pull(made.name)
    t.expect(bytes(await t.present(made.name)) == first, "the image is as it was", "it has changed")


@_idempotence.required(
    "I2",
    "Pulling by digest again answers the same.",
    why="Pods that are pinned to a digest, with Always.",
    source="cri-protocol 2.5a",
)
async def pulls_by_digest(t: Trial) -> None:
    made = await t.publish()
    references = [await t.client.pull(made.by_digest) for _ in range(_TIMES)]
    t.equal(len(set(references)), 1, "the number of different answers")


@_idempotence.required(
    "I3",
    "Removing again is no error.",
    why="Garbage collection tries again after an answer that it did not see.",
    source="cri-protocol 1.1, RemoveImage",
)
async def removals(t: Trial) -> None:
    made = await t.pulled()
    image_id = (await t.present(made.name)).id
    for text in [image_id] * _TIMES + [made.name] * _TIMES:
        await t.client.remove(text)
    await t.absent(made.name)


@_idempotence.required(
    "I4",
    "A status again is equal, whoever else asks in between.",
    why="Caches compare.",
    source="cri-protocol 3.2",
)
async def statuses(t: Trial) -> None:
    made = await t.pulled()
    seen = set()
    for _ in range(_TIMES):
        seen.add(bytes(await t.present(made.name)))
        await t.client.images()
        await t.client.status(made.name, verbose=True)
    t.equal(len(seen), 1, "the number of different answers")


@_idempotence.required(
    "I5",
    "The mountpoint of the image file system stays.",
    why="Statistics are kept by it.",
    source="cri-protocol 2.8",
)
async def mountpoints(t: Trial) -> None:
    seen = {(await t.client.usage()).image_filesystems[0].fs_id.mountpoint for _ in range(_TIMES)}
    t.equal(len(seen), 1, "the number of different mountpoints")


@_idempotence.required(
    "I6",
    "Pull, removal and pull again give the same ID each time.",
    why="Records by ID outlive the image.",
    source="cri-protocol 2.5a",
)
async def round_trips(t: Trial) -> None:
    made = await t.publish()
    seen = set()
    for _ in range(3):
        seen.add(await t.client.pull(made.name))
        await t.client.remove((await t.present(made.name)).id)
    t.equal(len(seen), 1, "the number of different references")
