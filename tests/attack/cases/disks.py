"""Stores on full and read-only disks, and without their folders: ours, the engine's, the runtime's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from attack.case import case
from attack.target import LIST, field
from containers_storage.small_disk import small_disk
from criimage.testing.oci import image, noise_layer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from attack.target import Target
    from parts.raw_client import Answer

STORE = ("containers-storage",)
OTHERS = ("docker", "cri")
REMOVE = "/runtime.v1.ImageService/RemoveImage"
_OK, _UNKNOWN = 0, 2
_TOOLS_WORDS = ("skopeo", "/data/", "/root/", "GetImageBlob", "snapshot", "ingest", "digest data", "mkdir", "open ")
_WHOSE = {"docker": "the engine's store", "cri": "the runtime's store"}
_DOWNLOADS = {"docker": "data/tmp", "cri": "root/io.containerd.snapshotter.v1.overlayfs/snapshots"}
_ROOTS = {"docker": "data", "cri": "root"}
_PARTS = {"docker": "data/overlay2", "cri": "root/io.containerd.content.v1.content"}


def _spoken_plainly(target: Target, answer: Answer, words: str) -> None:
    """The text says what is wrong, and neither where things are kept nor which tool is worked with, in its words."""
    part = target.store or target.engine or target.runtime
    assert part is not None
    assert answer.status == _UNKNOWN, f"answered {answer.status}: {answer.message[:100]}"
    assert words in answer.message, answer.message
    assert not any(said in answer.message for said in (str(part.folder), *_TOOLS_WORDS)), answer.message


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@case("disks", "no space for layers", backends=STORE, first=True)
async def full_disk(target: Target) -> None:
    """The text says so and nothing is left on it, the layer before included; with space again, the pull works."""
    assert target.store is not None
    layers = noise_layer(2**18, seed=1), noise_layer(8 * 2**20)
    name = target.registry.put(image(*layers), "attack/large")
    target.store.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        disk = await asyncio.to_thread(lambda: stack.enter_context(small_disk(2)))
        await asyncio.to_thread(_mount, "--bind", str(disk), str(target.store.root))
        try:
            answer = await target.pull(name)
            async with asyncio.timeout(30):
                while left := await asyncio.to_thread(_layers_on, disk):  # noqa: ASYNC110 - another process is waited for
                    await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(subprocess.run, ["umount", "-l", str(target.store.root)], check=True)
    assert not left
    _spoken_plainly(target, answer, "no space left on device")
    assert (await target.pull(name)).status == _OK, "with space again, the pull failed"


def _layers_on(disk: Path) -> list[str]:
    records = [json.loads(file.read_text()) for file in disk.glob("overlay-*/*.json")]
    folders = [folder.name for folder in disk.glob("overlay/*") if folder.is_dir() and len(folder.name) == 64]
    return [str(record) for record in records if record] + folders


@case("disks", "the store may not be written", backends=STORE)
async def read_only(target: Target) -> None:
    """A pull and a removal say so; the image is still there; afterwards both work."""
    assert target.store is not None
    root, name = str(target.store.root), target.fresh()
    assert (await target.pull()).status == _OK
    await asyncio.to_thread(_mount, "--bind", root, root)
    try:
        await asyncio.to_thread(_mount, "-o", "remount,ro,bind", root)
        pulled = await target.pull(name)
        removed = await target.call(REMOVE, field(1, field(1, target.image)))
        listed = await target.call(LIST)
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", root], check=True)
    _spoken_plainly(target, pulled, "the store cannot be written: Read-only file system")
    _spoken_plainly(target, removed, "the store cannot be written: Read-only file system")
    assert target.image.encode() in bytes(listed.data), "the image is gone from the list"
    assert (await target.pull(name)).status == _OK
    assert (await target.call(REMOVE, field(1, field(1, target.image)))).status == _OK


@case("disks", "the folder for downloads is a file", backends=STORE)
async def no_folder(target: Target) -> None:
    """The text names the setting; with the folder back, and it may be empty, the pull works."""
    assert target.store is not None
    name, kept = target.fresh(), target.store.tmp.with_name("kept-tmp")
    await asyncio.to_thread(os.rename, target.store.tmp, kept)
    try:
        await asyncio.to_thread(target.store.tmp.write_text, "")
        answer = await target.pull(name)
    finally:
        await asyncio.to_thread(os.unlink, target.store.tmp)
    _spoken_plainly(target, answer, "the folder for downloads (tmp_dir)")
    assert (await target.pull(name)).status == _OK
    await asyncio.to_thread(shutil.rmtree, kept)


@contextlib.asynccontextmanager
async def _over(target: Target, place: str, *mounts: tuple[str, ...]) -> AsyncIterator[None]:
    """Mount over a folder of the engine's or the runtime's, where only it sees that; each mount ends with the place."""
    part = target.engine or target.runtime
    assert part is not None
    inside = ("nsenter", f"--target={part.pid}", "--mount", "--pid", "--")
    folder = str(part.folder / place)
    done = 0
    try:
        for arguments in mounts:
            command = [*inside, "mount", *(folder if one == "PLACE" else one for one in arguments)]
            await asyncio.to_thread(subprocess.run, command, check=True)
            done += "remount" not in ",".join(arguments)
        yield
    finally:
        for _ in range(done):
            await asyncio.to_thread(subprocess.run, [*inside, "umount", "-l", folder], check=True)


def _large(target: Target) -> str:
    return target.registry.put(image(noise_layer(4 * 2**20)), "attack/large")


@case("disks", "another's store has no space", backends=OTHERS)
async def no_space(target: Target) -> None:
    """The text says so and nothing else; with space again, the pull works."""
    name = _large(target)
    async with _over(target, _DOWNLOADS[target.backend], ("-t", "tmpfs", "-o", "size=256k", "tmpfs", "PLACE")):
        answer = await target.pull(name)
    _spoken_plainly(target, answer, "no space left on device: ")
    assert (await target.pull(name)).status == _OK, "with space again, the pull failed"
    assert (await target.call(REMOVE, field(1, field(1, name)))).status == _OK


@case("disks", "another's store may not be written", backends=OTHERS)
async def not_written(target: Target) -> None:
    """A pull says so, and a removal where it fails at all; lists go on; afterwards all is well."""
    assert (await target.pull()).status == _OK
    name = _large(target)
    readable = ("--bind", "PLACE", "PLACE"), ("-o", "remount,ro,bind", "PLACE")
    async with _over(target, _ROOTS[target.backend], *readable):
        pulled = await target.pull(name)
        listed = await target.call(LIST)
        removed = await target.call(REMOVE, field(1, field(1, target.image)))
    words = f"{_WHOSE[target.backend]} cannot be written: Read-only file system"
    _spoken_plainly(target, pulled, words)
    assert target.image.encode() in bytes(listed.data), "the image is gone from the list"
    # containerd has its database open, and forgets the image.
    if target.backend == "docker":
        _spoken_plainly(target, removed, words)
    assert (await target.pull(name)).status == _OK
    for one in (name, target.image):
        assert (await target.call(REMOVE, field(1, field(1, one)))).status == _OK


@case("disks", "another's store has lost a folder", backends=OTHERS)
async def lost_folder(target: Target) -> None:
    """The text says whose it is, not which; with the folder back, the pull works."""
    name = _large(target)
    async with _over(target, _PARTS[target.backend], ("-t", "tmpfs", "tmpfs", "PLACE")):
        answer = await target.pull(name)
    _spoken_plainly(target, answer, f"{_WHOSE[target.backend]} lacks a folder or file of its own")
    assert (await target.pull(name)).status == _OK
    assert (await target.call(REMOVE, field(1, field(1, name)))).status == _OK
