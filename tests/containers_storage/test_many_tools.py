"""criimage, skopeo, buildah and containers-storage work on one store, then everything in it is looked at."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers_storage.by_chance import ByChance
from containers_storage.locks import locks
from containers_storage.opened import opened
from criimage import errors
from criimage.testing.oci import Image, image, layer, noise_layer
from parts.missing import need
from parts.registry import registry
from parts.skopeos import Version
from parts.store import store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from containers_storage.opened import Opened
    from parts.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

OPERATIONS = 200
AT_ONCE = 4
SHARED = [noise_layer(60_000, seed=number) for number in range(3)]
IMAGES = [image(*SHARED[: 1 + number % 3], layer({"n": bytes([number])})) for number in range(6)]


@dataclass(slots=True)
class Workshop(ByChance):
    """The store and its tools.

    Attributes:
        local: the store.
        criimage: the backend on it.
        names: of the images in the registry.
        chance: decides everything.
        done: how often each operation succeeded, and how often it failed in a way that is part of the game.
    """

    local: Store
    criimage: Opened
    names: list[str]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)

    @property
    def operations(self) -> list[tuple[int, Callable[[str], Awaitable[bool]]]]:
        """Each with its weight."""
        return [
            (5, self.pull),
            (3, self.remove),
            (3, self.look),
            (3, self.skopeo_copy),
            (2, self.skopeo_delete),
            (2, self.buildah_tag),
            (2, self.buildah_rmi),
            (2, self.buildah_container),
            (1, self.storage_delete),
            (2, self.storage_names),
        ]

    async def pull(self, name: str) -> bool:
        """By criimage; only a deletion by another tool in that very moment may spoil it, three times in a row."""
        try:
            pulled = await self.criimage.pull(name)
        except errors.CriimageError as error:
            if "removed while" not in error.text and "not known" not in error.text:
                raise
            return False
        assert pulled.id.hex in {made.id.removeprefix("sha256:") for made in IMAGES}
        return True

    async def remove(self, name: str) -> bool:
        """By criimage; an image that a container uses stays."""
        try:
            await self.criimage.remove(name)
        except errors.ImageInUse:
            return False
        return True

    async def look(self, name: str) -> bool:
        """List and status; whatever is listed has an ID, a size and digests."""
        for one in await self.criimage.backend.images():
            assert one.size > 0
        return await self.criimage.status(name) is not None

    async def skopeo_copy(self, name: str) -> bool:
        """By skopeo, from the registry."""
        return await self._tool(self.local.skopeo, "copy", "-q", f"docker://{name}", self.local.reference(name))

    async def skopeo_delete(self, name: str) -> bool:
        """By skopeo: the image with all its names."""
        return await self._tool(self.local.skopeo, "delete", self.local.reference(name))

    async def buildah_tag(self, name: str) -> bool:
        """One more name, in front."""
        return await self._tool(self._buildah, "tag", name, f"{name}-{self.chance.randrange(3)}")

    async def buildah_rmi(self, name: str) -> bool:
        """One name less, or the image."""
        return await self._tool(self._buildah, "rmi", name)

    async def buildah_container(self, name: str) -> bool:
        """A container that uses an image for a moment."""
        container = f"c{self.chance.getrandbits(40)}"
        begun = await self._tool(self._buildah, "from", "--pull-never", "--name", container, name)
        await asyncio.sleep(self.chance.random() / 10)
        return (await self._tool(self._buildah, "rm", container)) and begun

    async def storage_delete(self, name: str) -> bool:
        """By containers-storage: the image with all its names."""
        return await self._tool(self.local.command, "delete-image", name)

    async def storage_names(self, name: str) -> bool:
        """One more name, at the end (T9)."""
        return await self._tool(self.local.command, "add-names", "-n", f"{name}-{self.chance.randrange(3)}", name)

    async def _tool(self, run: Callable[..., subprocess.CompletedProcess[str]], *arguments: str) -> bool:
        ended = await asyncio.to_thread(lambda: run(*arguments, check=False))
        assert ended.returncode >= 0, ended
        assert "panic" not in ended.stderr
        return ended.returncode == 0

    def _buildah(self, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        where = ["--root", str(self.local.root), "--runroot", str(self.local.run_root)]
        command = ["buildah", *where, "--storage-driver", self.local.driver, *arguments]
        environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(self.local.registries_conf)}
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize(
    ("each_skopeo", "driver"),
    [(Version.HERE, "overlay"), (Version.HERE, "vfs"), (Version.DEBIAN13, "overlay")],
    indirect=["each_skopeo"],
)
async def test_two_hundred_operations_then_everything_is_whole(
    each_skopeo: Version, driver: str, record_property: Callable[[str, object], None]
) -> None:
    """Nothing is lost or half, no lock is left, nothing waits (T7, T8, T9, T10, T11, L10)."""
    need("buildah")
    seed = int(os.environ.get("CRIIMAGE_SEED", "3"))
    with registry() as hub, store(driver=driver) as local:
        names = [hub.push(made, f"app{number}", "1") for number, made in enumerate(IMAGES)]
        async with opened(local) as under_test:
            chance = random.Random(f"{seed} {driver} {each_skopeo}")  # noqa: S311 - to be repeated
            workshop = Workshop(local, under_test, names, chance)

            async def worker() -> None:
                for _ in range(OPERATIONS // AT_ONCE):
                    await workshop.any()

            await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
            assert workshop.done.total() == OPERATIONS
            for name in names[:3]:
                await under_test.pull(name)
                assert (await under_test.status(name)) is not None
            assert not locks(local)
            await asyncio.to_thread(audit, local, [one.id.hex for one in await under_test.backend.images()])
            for one in await under_test.backend.images():
                await under_test.remove(str(one.id))
            assert local.images() == {}
    print(f"seed {seed}, {driver}: {dict(sorted(workshop.done.items()))}")  # noqa: T201 - a figure
    record_property("operations", dict(workshop.done))


def audit(local: Store, listed: list[str]) -> None:
    """Looks at everything: what is listed is what is there, and each image comes out of the store as it was made."""
    made: dict[str, Image] = {one.id.removeprefix("sha256:"): one for one in IMAGES}
    assert set(listed) == set(local.images())
    for identity in listed:
        with tempfile.TemporaryDirectory() as folder:
            local.skopeo("copy", "-q", local.reference(f"@{identity}"), f"dir:{folder}")
            manifest = json.loads((Path(folder) / "manifest.json").read_bytes())
            assert manifest["config"]["digest"] == f"sha256:{identity}"
            config = json.loads((Path(folder) / identity).read_bytes())
            assert config["rootfs"]["diff_ids"] == [one.diff_id for one in made[identity].layers]
            assert len(manifest["layers"]) == len(made[identity].layers)
