"""Images whose layers are zstd:chunked, with partial pulls allowed by the machine's storage.conf and without."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened, texts
from criimage.testing.oci import image, layer, noise_layer
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = image(layer({"etc/motd": b"hello" * 1000}), noise_layer(300_000))


def run(command: list[str]) -> None:
    """Runs a tool that has to succeed."""
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
@pytest.mark.parametrize("partial", ["false", "true"])
async def test_zstd_chunked(other_skopeo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: str) -> None:
    """Pulled whole, skipped when unchanged and removed, whatever storage.conf says of partial images (V3)."""
    conf = tmp_path / "storage.conf"
    conf.write_text(
        '[storage]\ndriver = "overlay"\ngraphroot = "/none"\nrunroot = "/none"\n'
        f'[storage.options]\npull_options = {{enable_partial_images = "{partial}", convert_images = "false"}}\n'
    )
    with registry() as hub, store() as local:
        plain = hub.push(IMAGE, "plain", "1")
        name = f"{hub.address}/chunked:1"
        known = [other_skopeo / "skopeo", "--registries-conf", local.registries_conf, "--policy", local.policy]
        command = [*map(str, known), "copy", "--dest-compress-format", "zstd:chunked"]
        # Debian 12's cannot write the format.
        await asyncio.to_thread(run, [*command, f"docker://{plain}", f"docker://{name}"])
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
        async with opened(local) as under_test:
            pulled = await under_test.pull(name)
            assert pulled.id.hex == IMAGE.id.removeprefix("sha256:")
            assert texts(pulled.tags) == [name]
            assert pulled.size > 300_000
            assert await under_test.pull(name) == pulled
            assert under_test.reports[-1].unchanged
            await under_test.remove(name)
            assert await under_test.backend.images() == ()
        assert local.layers() == set()
