"""Blocked registries, and the mirrors that may serve in their place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened, texts
from criimage import errors
from criimage.testing.oci import image, layer
from criimage.testing.scripted_registry import Hang, ScriptedRegistry, Stage, scripted_registry
from parts.store import Store, insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo", "each_way")]

SMALL = image(layer({"etc/motd": b"hello"}))
DIGEST = f"@{SMALL.digest}"


@pytest.fixture
def hubs() -> Iterator[tuple[ScriptedRegistry, ScriptedRegistry]]:
    """A source that must not be asked, and a mirror; both have the image."""
    with scripted_registry() as source, scripted_registry() as mirror:
        source.put(SMALL, "team/app", "1")
        mirror.put(SMALL, "copy/app", "1")
        yield source, mirror


def configure(local: Store, prefix: str, location: str, mirror: str, limit: str = "") -> None:
    """Blocks a registry that has one mirror."""
    limit = f'pull-from-mirror = "{limit}"\n' if limit else ""
    local.write_registries(
        f'{insecure_registries("127.0.0.1")}[[registry]]\nprefix = "{prefix}"\nlocation = "{location}"\n'
        f'blocked = true\n[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = true\n{limit}'
    )


@pytest.mark.parametrize("limit", ["", "digest-only", "tag-only"])
@pytest.mark.parametrize("rewritten", [False, True], ids=["as-it-is", "rewritten"])
async def test_a_blocked_registry_is_pulled_from_its_mirrors(
    hubs: tuple[ScriptedRegistry, ScriptedRegistry], limit: str, rewritten: bool
) -> None:
    """As far as pull-from-mirror allows; the source is asked nothing, whatever its location, nor by ourselves (C5)."""
    source, mirror = hubs
    with store() as local:
        prefix = "hub.example/team" if rewritten else f"{source.address}/team"
        configure(local, prefix, f"{source.address}/team", f"{mirror.address}/copy", limit)
        async with opened(local) as under_test:
            for suffix, barred in ((":1", "digest-only"), (DIGEST, "tag-only")):
                name = f"{prefix}/app{suffix}"
                before = len(mirror.requests)
                if limit == barred:
                    with pytest.raises(errors.PullError, match="is blocked"):
                        await under_test.pull(name)
                    assert len(mirror.requests) == before, "it is refused before any traffic"
                else:
                    for _ in range(2):  # the second time we ask ourselves whether it has changed
                        pulled = await under_test.pull(name)
                        assert name in texts(pulled.tags) + texts(pulled.digests)
                    assert under_test.reports[-1].unchanged
        assert source.requests == ()


async def test_a_mirror_that_fails_leads_nowhere_else(hubs: tuple[ScriptedRegistry, ScriptedRegistry]) -> None:
    """Without the image on the mirror the pull fails, and the source is not asked all the same (C5)."""
    source, mirror = hubs
    with store() as local:
        configure(local, "hub.example/team", f"{source.address}/team", f"{mirror.address}/copy")
        async with opened(local) as under_test:
            with pytest.raises(errors.PullError):
                await under_test.pull("hub.example/team/app:2")
        assert mirror.requests
        assert source.requests == ()


async def test_sizes_are_asked_of_the_mirror_alone(hubs: tuple[ScriptedRegistry, ScriptedRegistry]) -> None:
    """What a slow pull asks about its layers goes the same way as the pull itself (C5)."""
    source, mirror = hubs
    with store() as local:
        configure(local, "hub.example/team", f"{source.address}/team", f"{mirror.address}/copy")
        hang = mirror.script(Stage.LAYER, Hang(after=50))
        async with opened(local) as under_test:
            pull = asyncio.create_task(under_test.pull("hub.example/team/app:1"))
            await mirror.until(lambda: len(mirror.asked(Stage.MANIFEST)) > 1)
            hang.release()
            await pull
        assert source.requests == ()
