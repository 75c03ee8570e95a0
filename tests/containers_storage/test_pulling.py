"""Pulls with a real skopeo into a real store."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers_storage.hanging_registry import HangingRegistry, hanging_registry
from containers_storage.opened import opened, texts, until
from criimage import errors
from criimage.backend import Phase, User
from criimage.credentials import Credentials
from criimage.reference import Name
from criimage.testing.oci import Config, image, index, layer, machine_architecture, noise_layer
from parts.registry import registry
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.backend import PullProgress

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

DRIVERS = pytest.mark.parametrize("driver", ["overlay", "vfs"])
SMALL = image(
    layer({"etc/motd": b"hello"}),
    noise_layer(100_000),
    config=Config(user="1000:50", labels={"colour": "blue"}),
    annotations={"note": "n"},
)
SECRET = "correct.horse"  # noqa: S105 - of a registry that lives as long as the test


def other_architecture() -> str:
    """One that this machine is not."""
    return "arm64" if machine_architecture() != "arm64" else "amd64"


@DRIVERS
async def test_a_first_pull_and_every_way_to_find_it(driver: str) -> None:
    """From a store that does not exist yet to the same image by ID, short ID, tag and digest (P12, S1, S16, L1, T4)."""
    with registry() as hub, store(driver=driver) as local:
        name = hub.push(SMALL, "team/small", "1")
        async with opened(local) as under_test:
            assert await under_test.backend.check() == ()
            assert await under_test.backend.images() == ()
            pulled = await under_test.pull(name)
            assert str(pulled.id) == SMALL.id.removeprefix("sha256:")
            assert texts(pulled.tags) == [name]
            assert texts(pulled.digests) == [f"{hub.address}/team/small@{SMALL.digest}"]
            assert await under_test.backend.images() == (pulled,)
            for text in (str(pulled.id), f"sha256:{pulled.id}", str(pulled.id)[:7], name, str(pulled.digests[0])):
                found = await under_test.status(text)
                assert found is not None
                assert found.image is pulled
                assert found.user == User(uid=1000)
                assert found.annotations == {"note": "n"}
                assert found.info == {}
            verbose = await under_test.status(name, verbose=True)
            assert verbose is not None
            assert json.loads(verbose.info["info"])["labels"] == {"colour": "blue"}
        # What skopeo itself says of it.
        inspected = json.loads(local.skopeo("inspect", local.reference(name)).stdout)
        assert inspected["Digest"] == SMALL.digest
        assert inspected["Labels"] == {"colour": "blue"}


async def test_tag_digest_both_and_none() -> None:
    """A missing tag means latest, a digest wins over a tag beside it and is itself the name (N3, N4, P12)."""
    with registry() as hub, store() as local:
        hub.push(SMALL, "team/small", "1", "latest")
        repository = f"{hub.address}/team/small"
        async with opened(local) as under_test:
            assert texts((await under_test.pull(repository)).tags) == [f"{repository}:latest"]
            by_both = await under_test.pull(f"{repository}:nothing@{SMALL.digest}")
            assert texts(by_both.tags) == [f"{repository}:latest"]
            assert await under_test.status(f"{repository}@{SMALL.digest}") is not None
        assert set(local.images()[str(by_both.id)]) == {f"{repository}:latest", f"{repository}@{SMALL.digest}"}


@pytest.mark.usefixtures("each_way")
async def test_an_index() -> None:
    """Index and instance are both found, the index first; a machine that is not listed is told so (P12, S4)."""
    foreign = image(layer({"x": b"x"}), config=Config(architecture=other_architecture()))
    both = index(foreign, SMALL)
    with registry() as hub, store() as local:
        name = hub.push(both, "multi", "1")
        alien = hub.push(index(foreign), "alien", "1")
        async with opened(local) as under_test:
            pulled = await under_test.pull(name)
            expected = [f"{hub.address}/multi@{digest}" for digest in (both.digest, SMALL.digest)]
            assert texts(pulled.digests) == expected
            for text in expected:
                found = await under_test.status(text)
                assert found is not None
                assert found.image is pulled
            with pytest.raises(errors.PlatformMissing):
                await under_test.pull(alien)
            assert await under_test.backend.images() == (pulled,)


@pytest.mark.usefixtures("each_way")
async def test_unchanged_is_asked_for_but_not_copied() -> None:
    """The second pull asks for the manifest alone, in one call (P5-P9, T5).

    A moved tag is copied and leaves the old image without a name (P8, P18, S8); a policy that rejects is asked.
    """
    with registry() as hub, store() as local:
        name = hub.push(index(SMALL), "app", "1")
        async with opened(local) as under_test:
            first = await under_test.pull(name)
            before = len(hub.requests())
            assert await under_test.pull(name) is first
            asked = hub.requests()[before:]
            assert [line for line in asked if "/manifests/" in line]
            assert not [line for line in asked if "/blobs/" in line]
            assert {report.phase for report in under_test.reports} <= {
                Phase.RESOLVING,
                Phase.DOWNLOADING,
                Phase.UNPACKING,
                Phase.WAITING_FOR_STORE,
                Phase.DONE,
            }
            hub.push(image(layer({"new": b"1"})), "app", "1")
            moved = await under_test.pull(name)
            assert moved.id != first.id
            assert texts(moved.tags) == [name]
            old = await under_test.status(str(first.id))
            assert old is not None
            assert old.image.tags == ()
            assert old.image.digests == first.digests
        local.policy.write_text('{"default": [{"type": "reject"}]}')
        async with opened(local) as under_test:
            with pytest.raises(errors.SignatureRejected):
                await under_test.pull(name)


async def test_an_image_that_was_removed_is_copied_again() -> None:
    """What another tool removed is noticed (P7, L6)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            first = await under_test.pull(name)
            local.skopeo("delete", local.reference(name))
            assert await under_test.backend.images() == ()
            assert (await under_test.pull(name)) == first


@DRIVERS
async def test_an_image_that_lies_about_its_layers(driver: str) -> None:
    """Refused and taken back, and the name returns to the image that had it (T16, contract)."""
    with registry() as hub, store(driver=driver) as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            good = await under_test.pull(name)
            hub.push(image(layer({"x": b"x"}), diff_ids=["sha256:" + "0" * 64]), "app", "1")
            with pytest.raises(errors.ContentInvalid):
                await under_test.pull(name)
            assert await under_test.backend.images() == (good,)


async def test_blocked_by_its_own_name() -> None:
    """A blocked name is refused although it leads elsewhere, before anything is asked (C5)."""
    with registry() as hub, store() as local:
        hub.push(SMALL, "app", "1")
        local.write_registries(
            insecure_registries("127.0.0.1")
            + f'[[registry]]\nprefix = "bad.io"\nlocation = "{hub.address}"\nblocked = true\n'
        )
        before = hub.requests()
        async with opened(local) as under_test:
            with pytest.raises(errors.PullError, match=r"registry bad\.io is blocked in"):
                await under_test.pull("bad.io/app:1")
        assert hub.requests() == before


async def test_a_short_name_by_the_machines_registries() -> None:
    """Search registries and aliases lead to the image; its stored name is the full one (N8, N10, N12)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        local.write_registries(
            f'unqualified-search-registries = ["127.0.0.1:1", "{hub.address}"]\n'
            f'[aliases]\nnick = "{hub.address}/app"\n' + insecure_registries("127.0.0.1")
        )
        async with opened(local) as under_test:
            candidates = await under_test.backend.resolve(Name.parse("app:1"))
            assert texts(candidates) == ["127.0.0.1:1/app:1", name]
            pulled = await under_test.pull("nick:1")
            for text in ("app:1", "nick:1", name):
                found = await under_test.status(text)
                assert found is not None
                assert found.image is pulled


@DRIVERS
async def test_a_cancel_leaves_nothing(driver: str) -> None:
    """When the cancel has come through, neither process nor file is left, and the next pull succeeds (T14, P14)."""
    big = image(noise_layer(2_000_000))
    with (
        hanging_registry(HangingRegistry(big, hang_after=500_000)) as hub,
        store(driver=driver) as local,
    ):
        name = f"127.0.0.1:{hub.port}/app:1"
        async with opened(local) as under_test:
            task = asyncio.create_task(under_test.pull(name))
            await asyncio.to_thread(
                until, lambda: max((one.bytes_done for one in under_test.reports), default=0) >= 500_000
            )
            running = {process for process, line in children().items() if "skopeo" in line}
            assert running
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # On a busy machine the pull leaves before skopeo is gone.
            await asyncio.to_thread(until, lambda: not running & children().keys())
            await asyncio.to_thread(until, lambda: not [file for file in local.tmp.rglob("*") if file.is_file()])
            assert await under_test.backend.images() == ()
            assert local.images() == {}
            hub.hang_after = None
            await under_test.pull(name)


async def test_a_cancel_before_anything_began() -> None:
    """A pull that is cancelled at once leaves nothing, whichever step it was in; no mount of a new store (T3)."""
    with registry() as hub:
        name = hub.push(SMALL, "app", "1")
        for pause in (0, 0.003, 0.006, 0.01, 0.015, 0.02, 0.03, 0.04):
            with store() as local:
                async with opened(local) as under_test:
                    task = asyncio.create_task(under_test.pull(name))
                    await asyncio.sleep(pause)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    # On a busy machine the pull leaves before skopeo is gone.
                    await asyncio.to_thread(until, lambda: not any("skopeo" in line for line in children().values()))
                    await asyncio.to_thread(until, lambda: [file.name for file in local.tmp.glob("*/*")] == [])
                    assert f"{local.root}/overlay/" not in Path("/proc/self/mountinfo").read_text()  # noqa: ASYNC240
                    await under_test.pull(name)


async def test_the_secret_is_in_no_process_and_no_file() -> None:
    """While a pull runs the password stands in no command line, environment or file on disk (T12)."""
    big = image(noise_layer(2_000_000))
    with hanging_registry(HangingRegistry(big, hang_after=500_000)) as hub, store() as local:
        async with opened(local) as under_test:
            credentials = Credentials("bob", SECRET)
            task = asyncio.create_task(under_test.pull(f"127.0.0.1:{hub.port}/app:1", credentials))
            await asyncio.to_thread(hub.reached.wait, 60)
            hidden = [SECRET.encode(), base64.b64encode(f"bob:{SECRET}".encode())]
            looked_at = 0
            for process in children():
                for kind in ("cmdline", "environ"):
                    try:
                        content = Path(f"/proc/{process}/{kind}").read_bytes()  # noqa: ASYNC240
                    except (FileNotFoundError, ProcessLookupError):
                        continue  # one that asked something has had its answer
                    assert not [secret for secret in hidden if secret in content]
                    looked_at += 1
            assert looked_at >= 2
            for file in (path for path in local.folder.rglob("*") if path.is_file()):
                with contextlib.suppress(FileNotFoundError):
                    assert not [secret for secret in hidden if secret in file.read_bytes()]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def all_has_come(reports: list[PullProgress]) -> bool:
    """Whether the last report has all that the registry sends before it hangs, and what there is."""
    return bool(reports) and reports[-1].bytes_total is not None and reports[-1].bytes_done >= 500_000


@pytest.mark.usefixtures("each_way")
async def test_a_long_pull_learns_what_there_is_to_fetch() -> None:
    """Bytes and layers that are not here yet are told, and stand still while the registry does (T13, P15)."""
    small = noise_layer(20_000)
    slow = image(small, noise_layer(2_000_000, seed=1))
    with hanging_registry(HangingRegistry(image(small))) as hub, store() as local:
        async with opened(local) as under_test:
            await under_test.pull(f"127.0.0.1:{hub.port}/app:1")
            hub.image, hub.hang_after = slow, 500_000
            under_test.reports.clear()
            task = asyncio.create_task(under_test.pull(f"127.0.0.1:{hub.port}/app:2"))
            async with asyncio.timeout(45):
                # Reports come by callback, there is none at first, and bytes may come after their sum.
                while not all_has_come(under_test.reports):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                seen: PullProgress | None = None
                # Skopeo writes a last word about what has come, whenever it has the time.
                while seen != under_test.reports[-1]:
                    seen = under_test.reports[-1]
                    await asyncio.sleep(0.6)
            assert seen is not None
            assert (seen.phase, seen.bytes_done) == (Phase.DOWNLOADING, 500_000)
            assert (seen.bytes_total, seen.layers_done, seen.layers_total) == (len(slow.layers[1].data), 0, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            done = [report.bytes_done for report in under_test.reports]
            assert done == sorted(done)


async def test_a_killed_skopeo_is_an_error_of_this_pull_only() -> None:
    """Something else may kill the tool; the caller hears of it and the next pull works."""
    big = image(noise_layer(2_000_000))
    with hanging_registry(HangingRegistry(big, hang_after=500_000)) as hub, store() as local:
        async with opened(local) as under_test:
            task = asyncio.create_task(under_test.pull(f"127.0.0.1:{hub.port}/app:1"))
            await asyncio.to_thread(hub.reached.wait, 60)
            for process, line in children().items():
                if "skopeo" in line:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            with pytest.raises(errors.OperationFailed, match="signal 9"):
                await task
            hub.hang_after = None
            await under_test.pull(f"127.0.0.1:{hub.port}/app:1")


@DRIVERS
async def test_pulls_and_removals_at_once(driver: str) -> None:
    """Images that share layers come and go together; nothing fails and nothing is left (T10, T11, R6)."""
    shared = [noise_layer(200_000, seed=number) for number in range(3)]
    with registry() as hub, store(driver=driver) as local:
        names = [hub.push(image(*shared, layer({"n": bytes([n])})), f"app{n}", "1") for n in range(4)]
        async with opened(local) as one, opened(local) as another:

            async def come_and_go(name: str, number: int) -> None:
                under_test = (one, another)[number % 2]
                for _ in range(3):
                    await under_test.pull(name)
                    await under_test.remove(name)

            await asyncio.gather(*(come_and_go(name, number) for number, name in enumerate(names)))
            assert await one.backend.images() == ()
        assert local.layers() == set()
        assert local.layer_folders() == set()


async def test_missing_skopeo_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without skopeo, or without a policy, check and pull say so (contract, section 8)."""
    with store() as local:
        local.policy.unlink()
        monkeypatch.setenv("PATH", str(tmp_path))
        async with opened(local) as under_test:
            problems = [problem.text for problem in await under_test.backend.check()]
            assert problems[0] == "skopeo is not installed"
            assert problems[1].startswith("there is no signature policy")
            with pytest.raises(errors.ConfigurationError, match="no signature policy"):
                await under_test.pull("127.0.0.1:1/x:1")
            local.policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
            assert [problem.text for problem in await under_test.backend.check()] == ["skopeo is not installed"]
            with pytest.raises(errors.ConfigurationError, match="skopeo is not installed"):
                await under_test.pull("127.0.0.1:1/x:1")


def children() -> dict[int, str]:
    """Command lines of all processes below this one, by ID."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            lines[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if status[0] != "Z":
            parents[int(folder.name)] = int(status[1])

    def below(process: int) -> Iterator[int]:
        for child, parent in parents.items():
            if parent == process:
                yield child
                yield from below(child)

    return {process: lines[process] for process in below(os.getpid()) if "docker-registry" not in lines[process]}
