"""Removals from a real store."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess

import pytest

from containers_storage.hanging_registry import HangingRegistry, hanging_registry
from containers_storage.opened import opened, texts
from criimage import errors
from criimage.reference import Pattern
from criimage.testing.oci import image, layer, noise_layer
from parts.registry import registry
from parts.store import store, unmount_below

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

DRIVERS = pytest.mark.parametrize("driver", ["overlay", "vfs"])
BASE = noise_layer(50_000)
SMALL = image(BASE, layer({"a": b"a"}))
OTHER = image(BASE, layer({"b": b"b"}))


@DRIVERS
@pytest.mark.parametrize("form", ["id", "prefixed", "short", "tag", "digest"])
async def test_every_form_removes_the_image_with_all_names(driver: str, form: str) -> None:
    """Whatever finds it removes it whole, and the layers that nothing else needs (R2, R6, R8, T7)."""
    with registry() as hub, store(driver=driver) as local:
        names = [hub.push(SMALL, repository, "1") for repository in ("app", "alias")]
        other = hub.push(OTHER, "other", "1")
        async with opened(local) as under_test:
            for name in (*names, other):
                await under_test.pull(name)
            found = await under_test.status(names[0])
            assert found is not None
            identity = str(found.image.id)
            text = {
                "id": identity,
                "prefixed": f"sha256:{identity}",
                "short": identity[:8],
                "tag": names[0],
                "digest": str(found.image.digests[0]),
            }[form]
            await under_test.remove(text)
            assert [texts(one.tags) for one in await under_test.backend.images()] == [[other]]
            for gone in (*names, identity, text):
                assert await under_test.status(gone) is None
            await under_test.remove(text)
        assert len(local.layers()) == 2


@DRIVERS
@pytest.mark.parametrize("how", ["image", "untag"])
async def test_in_use_nothing_is_removed(driver: str, how: str) -> None:
    """A container keeps the image, its names and its layers; afterwards it goes (R5, L2, contract)."""
    with registry() as hub, store(driver=driver) as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local, remove=how) as under_test:
            pulled = await under_test.pull(name)
            container = local.hold(name)
            layers = local.layers()
            for text in (name, str(pulled.id)):
                with pytest.raises(errors.ImageInUse, match=f"image used by {container}"):
                    await under_test.remove(text)
            assert await under_test.backend.images() == (pulled,)
            assert local.layers() == layers
            local.release(container)
            await under_test.remove(name)
            assert await under_test.backend.images() == ()


async def test_many_at_once_all_succeed() -> None:
    """Eight callers remove one image: eight times OK (R1)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test, opened(local) as another:
            await under_test.pull(name)
            await asyncio.gather(*(one.remove(name) for one in (under_test, another) for _ in range(4)))
            assert await under_test.backend.images() == ()


async def test_unknown_is_success_and_nonsense_is_not() -> None:
    """What is not there is removed already; a short name that means nothing is the caller's fault (R1, N7, N9)."""
    with store() as local:
        async with opened(local) as under_test:
            for text in ("a" * 64, "sha256:" + "b" * 64, "abcdef", "127.0.0.1:1/x:1", "ABCDEF"):
                await under_test.remove(text)
                assert await under_test.status(text) is None
            with pytest.raises(errors.InvalidRequest, match="no registries configured"):
                await under_test.remove("nothing")


async def test_untag_takes_one_name_and_the_image_with_the_last() -> None:
    """With `remove = "untag"` a name goes alone, a digest takes its repository's names, an ID all (R3, R4, T8)."""
    with registry() as hub, store() as local:
        names = [hub.push(SMALL, "app", tag) for tag in ("1", "2", "3")] + [hub.push(SMALL, "alias", "1")]
        async with opened(local, remove="untag") as under_test:
            for name in names:
                await under_test.pull(name)
            await under_test.remove(names[1])
            (left,) = await under_test.backend.images()
            assert texts(left.tags) == [names[3], names[0], names[2]]
            await under_test.remove(f"{hub.address}/app@{SMALL.digest}")
            (left,) = await under_test.backend.images()
            assert texts(left.tags) == [names[3]]
            await under_test.remove(names[3])
            assert await under_test.backend.images() == ()
            await under_test.pull(names[0])
            await under_test.pull(names[1])
            await under_test.remove(str(left.id)[:9])
            assert await under_test.backend.images() == ()
        assert local.layers() == set()


@DRIVERS
async def test_a_read_only_store(driver: str) -> None:
    """Its images are listed after ours and pulled without new layers; they cannot be removed (L12, R7)."""
    with registry() as hub, store(driver=driver) as shared, store(driver=driver) as local:
        name = hub.push(SMALL, "app", "1")
        shared.pull(name)
        unmount_below(shared.folder)
        own = hub.push(OTHER, "own", "1")
        async with opened(local, options=[f"{driver}.imagestore={shared.root}"]) as under_test:
            found = await under_test.status(name)
            assert found is not None
            assert found.image.size > 50_000
            with pytest.raises(errors.ReadOnlyImage, match="read-only store"):
                await under_test.remove(name)
            await under_test.pull(own)
            assert [texts(one.tags) for one in await under_test.backend.images()] == [[own], [name]]
            assert (await under_test.pull(name)).id == found.image.id
            await under_test.remove(own)
            assert [texts(one.tags) for one in await under_test.backend.images()] == [[name]]


async def test_a_cancelled_removal_is_whole_or_not_at_all() -> None:
    """A removal that has begun ends before its cancellation leaves (contract)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            for pause in (0, 0.002, 0.005, 0.01, 0.015, 0.02):
                await under_test.pull(name)
                task = asyncio.create_task(under_test.remove(name))
                await asyncio.sleep(pause)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):  # unless it was faster
                    await task
                assert bool(local.images()) == bool(local.layers())
                await under_test.remove(name)
                assert local.layers() == set()


async def test_a_hanging_pull_does_not_keep_images() -> None:
    """Disk space is freed although a copy hangs, after a moment for the first removal and at once then (T10, T15)."""
    big = image(noise_layer(2_000_000))
    with registry() as hub, hanging_registry(HangingRegistry(big, hang_after=100_000)) as slow, store() as local:
        names = [hub.push(one, "app", str(number)) for number, one in enumerate((SMALL, OTHER))]
        async with opened(local) as under_test:
            for name in names:
                await under_test.pull(name)
            task = asyncio.create_task(under_test.pull(f"127.0.0.1:{slow.port}/big:1"))
            assert await asyncio.to_thread(slow.reached.wait, 60)
            # The copy hangs until it is cancelled below: a removal that waited for it would never end.
            async with asyncio.timeout(50):
                for name in names:
                    await under_test.remove(name)
            assert await under_test.backend.images() == ()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_filters_follow_the_rules_of_status() -> None:
    """A pattern finds one image, with all its names; a glob finds nothing here (S15, design section 4)."""
    with registry() as hub, store() as local:
        names = [hub.push(SMALL, "app", tag) for tag in ("1", "latest")]
        async with opened(local) as under_test:
            for name in names:
                await under_test.pull(name)
            (listed,) = await under_test.backend.images()
            for text in (names[0], f"{hub.address}/app", str(listed.id)[:5], str(listed.digests[0])):
                assert await under_test.backend.images(Pattern.parse(text)) == (listed,)
            for text in (f"{hub.address}/app:2", f"{hub.address}/*", "abc"):
                assert await under_test.backend.images(Pattern.parse(text)) == ()


async def test_usage_is_what_du_says() -> None:
    """Bytes on disk of the image data, seen in the very next answer (F1, F3)."""
    with registry() as hub, store() as local:
        name = hub.push(image(noise_layer(3_000_000)), "app", "1")
        async with opened(local) as under_test:
            empty = (await under_test.backend.usage()).images[0]
            assert empty.used_bytes < 100_000
            await under_test.pull(name)
            usage = await under_test.backend.usage()
            folders = [str(local.root / f"overlay{part}") for part in ("", "-layers", "-images")]
            du = await asyncio.to_thread(measured, folders)
            assert abs(usage.images[0].used_bytes - du) <= 8192
            assert usage.containers == usage.images
            assert usage.images[0].mountpoint == str(local.root / "overlay-images")


def measured(folders: list[str]) -> int:
    """Bytes on disk, as du counts them."""
    du = subprocess.run(["du", "-sc", "-B1", *folders], capture_output=True, text=True, check=True)
    return int(du.stdout.splitlines()[-1].split()[0])
