"""Full disks and certificates."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from containers_storage.opened import opened, texts
from containers_storage.small_disk import enlarge, fill, small_disk
from criimage import errors
from criimage.testing.oci import image, layer, noise_layer
from criimage.testing.scripted_registry import Stage, scripted_registry
from parts.registry import registry
from parts.store import store

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

SMALL = image(layer({"a": b"a"}))
PARTS = [noise_layer(600_000, seed=number) for number in range(3)]
BIG = image(*PARTS, noise_layer(6_000_000))


async def test_no_space_for_the_download() -> None:
    """A full download folder is told as such, and empty again at once (section 8, contract)."""
    with small_disk(2) as disk, registry() as hub, store() as local:
        name = hub.push(BIG, "big", "1")
        async with opened(local, tmp_dir=str(disk)) as under_test:
            with pytest.raises(errors.StorageFull, match=f"no space left on device: {name}"):
                await under_test.pull(name)
            files = await asyncio.to_thread(lambda: [file.name for file in disk.rglob("*") if file.is_file()])
            assert files == []
            await under_test.pull(hub.push(SMALL, "small", "1"))
            await asyncio.to_thread(enlarge, disk, 20)
            await under_test.pull(name)


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
async def test_no_space_in_the_store(driver: str) -> None:
    """A full store is told as such; it holds what it held before, and works on (section 8, contract)."""
    with small_disk(6) as disk, registry() as hub, store(driver=driver) as local:
        big, small = hub.push(BIG, "big", "1"), hub.push(SMALL, "small", "1")
        async with opened(local, root=str(disk / "root"), run_root=str(disk / "run")) as under_test:
            kept = await under_test.pull(small)
            with pytest.raises(errors.StorageFull):
                await under_test.pull(big)
            assert await under_test.backend.images() == (kept,)
            usage = await under_test.backend.usage()
            # Not even the layers that had been complete: nothing lists them, so nobody would free their space.
            assert usage.images[0].used_bytes < 500_000
            await under_test.remove(small)
            assert await under_test.backend.images() == ()
            await asyncio.to_thread(enlarge, disk, 40)
            assert [await under_test.pull(name) for name in (big, small)] == list(await under_test.backend.images())


@pytest.mark.parametrize("place", ["tmp_dir", "root", "run_root"])
async def test_no_space_before_the_copy(place: str) -> None:
    """What is full before a byte of the image has come is a full disk as well; with space the pull succeeds (D16).

    Nothing fits any more: neither the pull's own folder, nor its journal in the store, nor skopeo's first steps.
    """
    with small_disk(10) as disk, scripted_registry() as hub, store() as local:
        name = hub.put(SMALL, "small", "1")
        (disk / "x").mkdir()
        async with opened(local, **{place: str(disk / "x")}) as under_test:
            await asyncio.to_thread(fill, disk)
            with pytest.raises(errors.StorageFull, match=f"^no space left on device: {name}$"):
                await under_test.pull(name)
            assert not hub.asked(Stage.LAYER)
            await asyncio.to_thread(enlarge, disk, 10)
            await under_test.pull(name)


async def test_a_store_that_cannot_be_written() -> None:
    """A read-only place is named before anybody pulls, and lists still work (L14, contract)."""
    with small_disk(2) as disk, store() as local:
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", str(disk)], check=True)
        async with opened(local, root=str(disk / "root")) as under_test:
            (problem,) = await under_test.backend.check()
            assert problem.text == f"{disk / 'root'} is not writable"
            assert await under_test.backend.images() == ()
            assert (await under_test.backend.usage()).images[0].mountpoint == str(disk)
            with pytest.raises(errors.OperationFailed, match="cannot be written"):
                await under_test.pull("127.0.0.1:1/x:1")


async def test_certificates() -> None:
    """An untrusted certificate is refused by name; `certs_dir` makes it trusted (C7, section 8)."""
    with registry(tls=True) as hub, store(registries="") as local:
        local.write_registries("")
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            with pytest.raises(errors.PullError, match="x509"):
                await under_test.pull(name)
        async with opened(local, certs_dir=str(hub.ca_folder)) as under_test:
            assert texts((await under_test.pull(name)).tags) == [name]
            await under_test.pull(name)
        with registry() as plain:
            plain_name = plain.push(SMALL, "app", "1")
            async with opened(local) as under_test:
                with pytest.raises(errors.PullError, match="marked insecure in registries"):
                    await under_test.pull(plain_name)
