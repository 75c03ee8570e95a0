"""ImageFsInfo: what garbage collection and eviction go by, and each client's first question."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import betterproto

from criimage.conformance.behaviour import Need, group
from criimage.testing import oci
from criimage.testing.scripted_registry import Hang, Stage

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial
    from criimage.cri.runtime import v1

_usage = group("usage")
_NOISE = 4 * 2**20
_FRESH_SECONDS = 35.0


async def _images(t: Trial) -> v1.FilesystemUsage:
    found = (await t.client.usage()).image_filesystems
    t.expect(found, "image_filesystems has an entry", "it is empty")
    return found[0]


@_usage.required(
    "U1",
    "There is an image file system with a mountpoint that is an absolute path.",
    why="An empty list is an error in garbage collection and in node statistics.",
    source="cri-protocol 2.8",
)
async def there_is_a_file_system(t: Trial) -> None:
    mountpoint = (await _images(t)).fs_id.mountpoint
    t.expect(mountpoint.startswith("/"), "the mountpoint is an absolute path", f"it is {mountpoint!r}")


@_usage.required(
    "U2",
    "`used_bytes` is set.",
    why="A kubelet follows it without looking: unset, it ends.",
    source="cri-protocol 2.8",
)
async def used_bytes_is_set(t: Trial) -> None:
    await t.pulled()
    t.expect(betterproto.serialized_on_wire((await _images(t)).used_bytes), "used_bytes is set", "it is not")


@_usage.required(
    "U3",
    "The timestamp is in nanoseconds since 1970 and not in the future.",
    why="Statistics with other times are thrown away.",
    source="cri-protocol 1.2, FilesystemUsage",
)
async def the_timestamp_is_real(t: Trial) -> None:
    measured, now = (await _images(t)).timestamp, time.time_ns()
    t.expect(now - 86_400 * 10**9 < measured < now + 10**9, "it is of the last day", f"it is {measured}, now {now}")


@_usage.extended(
    "U4",
    "`container_filesystems` has an entry too.",
    why="A kubelet beside CRI-O needs it (KubeletSeparateDiskGC).",
    source="cri-protocol 2.8",
)
async def containers_have_a_file_system(t: Trial) -> None:
    t.expect((await t.client.usage()).container_filesystems, "container_filesystems has an entry", "it is empty")


@_usage.extended(
    "U5",
    "A new image of 4 MiB is counted within 35 s.",
    why="Eviction decides by it; figures that stay behind evict too late.",
    source="design 4, ImageFsInfo",
)
async def a_new_image_is_counted(t: Trial) -> None:
    before = (await _images(t)).used_bytes.value
    noise = oci.noise_layer(_NOISE, seed=t.supply.run)
    await t.pulled(oci.image(noise))
    loop = asyncio.get_running_loop()
    end, now = loop.time() + _FRESH_SECONDS, before
    while loop.time() < end and now < before + _NOISE // 2:
        await asyncio.sleep(0.25)
        now = (await _images(t)).used_bytes.value
    t.expect(now >= before + _NOISE // 2, f"used_bytes grows by some {_NOISE}", f"from {before} to {now}")


@_usage.required(
    "U6",
    "It is answered without any image and in any case.",
    why="Each client asks it first, and ends where it fails.",
    source="cri-protocol 2.1, 3.1",
)
async def it_is_always_answered(t: Trial) -> None:
    for _ in range(3):
        await t.client.usage()


@_usage.extended(
    "U7",
    "It is answered while a pull hangs.",
    why="Eviction must not wait for a registry.",
    source="design 4, ImageFsInfo",
    needs=Need.SCRIPTED,
)
async def it_never_waits(t: Trial) -> None:
    made = await t.publish()
    hang = t.supply.hub.script(Stage.LAYER, Hang(), repository=made.path)
    async with t.pulling(made.name) as pull:
        await t.soon(lambda: hang.reached or pull.done(), "the pull asks for the layer", 20)
        async with t.within(10, "ImageFsInfo is answered"):
            await t.client.usage()
