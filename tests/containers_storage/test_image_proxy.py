"""skopeo kept up to ask registries: what a pull sees of it, which is nothing but less time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.command import at_once
from containers_storage.opened import opened, until
from containers_storage.test_pulling import children
from criimage import errors
from criimage.credentials import Credentials
from criimage.testing.oci import image, index, layer
from criimage.testing.scripted_registry import Auth, Close, Hang, Stage, scripted_registry
from criimage_containers_storage.pulling import proxies
from criimage_containers_storage.pulling.proxy import Proxy
from criimage_containers_storage.pulling.skopeo import Skopeo
from criimage_containers_storage.store.busy import other_tools
from criimage_containers_storage.store.storage_conf import Layout
from parts.child import child
from parts.criimage_process import criimage, store_config
from parts.registry import registry
from parts.skopeos import Version
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

SMALL = image(layer({"etc/motd": b"hello"}))
OTHER = image(layer({"etc/motd": b"other"}))
SECRET = "correct.horse"  # noqa: S105 - of a registry that lives as long as the test


class Counted:
    """Counts the proxies that are started, and the questions that a skopeo of their own was started for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proxies = self.processes = 0
        start, top_manifest = Proxy.start, Skopeo.top_manifest

        async def started(*arguments: object, **named: object) -> Proxy:
            self.proxies += 1
            return await start(*arguments, **named)  # type: ignore[arg-type]

        async def asked(*arguments: object) -> object:
            self.processes += 1
            return await top_manifest(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Proxy, "start", started)
        monkeypatch.setattr(Skopeo, "top_manifest", asked)

    @property
    def both(self) -> tuple[int, int]:
        """Proxies and processes."""
        return self.proxies, self.processes


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """What is started."""
    return Counted(monkeypatch)


def running() -> dict[int, str]:
    """The proxies below this process."""
    return {process: line for process, line in children().items() if "experimental-image-proxy" in line}


def files_of(process: int) -> Mapping[str, bytes]:
    """What the memory files of a process hold, by the names that they were made with."""
    found = {}
    for entry in Path(f"/proc/{process}/fd").iterdir():
        # One may be closed before it is looked at; those that matter are open all along.
        with contextlib.suppress(FileNotFoundError):
            name = str(entry.readlink())
            if name.startswith("/memfd:"):
                found[name.removeprefix("/memfd:").partition(" ")[0]] = entry.read_bytes()
    return found


async def test_one_process_for_many_questions(counted: Counted) -> None:
    """There is none until one is needed; then unchanged pulls start nothing, whatever the name is (T17, P5-P9)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        hub.push(index(OTHER), "many", "1")
        names = [name, f"{hub.address}/app@{SMALL.digest}", f"{hub.address}/many@{index(OTHER).digest}"]
        async with opened(local) as under_test:
            first = [await under_test.pull(one) for one in names]
            assert counted.both == (0, 0)
            assert not running()
            pulled = [await under_test.pull(one) for one in (*names, *names)]
            assert {one.id for one in pulled} == {one.id for one in first}
            assert under_test.reports[-1].unchanged
            assert counted.both == (1, 0)
            (process,) = running()
            # Nothing waits with deletions for it: it never opens a store.
            assert not [
                one
                for one in other_tools(Layout(local.root, local.run_root, local.driver), ())
                if one.endswith(f" {process}")
            ]
        assert not running()


async def test_what_has_changed_is_copied(counted: Counted) -> None:
    """A manifest that moved, an index in its place, and an index with the same image are new, as without (P8, S4)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            await under_test.pull(name)
            hub.push(OTHER, "app", "1")
            moved = await under_test.pull(name)
            assert str(moved.id) == OTHER.id.removeprefix("sha256:")
            for content in (index(OTHER), index(OTHER, annotations={"another": "index"})):
                hub.push(content, "app", "1")
                digests = (await under_test.pull(name)).digests
                assert f"{hub.address}/app@{content.digest}" in map(str, digests)
            # One gives out manifests, the other digests.
            assert counted.proxies == 2


async def test_the_tag_of_an_index(counted: Counted, each_skopeo: Version) -> None:
    """A newer skopeo kept up tells which index it is; an older one gives it to a process only (P6-P9, T17)."""
    content = index(SMALL)
    with registry() as hub, store() as local:
        name = hub.push(content, "many", "1")
        async with opened(local) as under_test:
            first = await under_test.pull(name)
            before = len(hub.requests())
            for _ in range(3):
                assert await under_test.pull(name) is first
                assert under_test.reports[-1].unchanged
            assert sum("/manifests/" in one for one in hub.requests()[before:]) == 3
            knows = each_skopeo is Version.DEBIAN13
            assert counted.both == ((1, 0) if knows else (1, 3))
            await asyncio.to_thread(until, lambda: bool(running()) is knows)
            hub.push(index(SMALL, annotations={"another": "index"}), "many", "1")
            assert await under_test.pull(name) != first
            assert not under_test.reports[-1].unchanged


async def test_credentials_are_of_one_question(counted: Counted) -> None:
    """One proxy serves right and wrong ones; between questions it has none, and no process shows any (T12, T17, P4)."""
    with registry(username="bob", password=SECRET) as hub, store() as local:
        name = hub.push(SMALL, "private", "1")
        right = Credentials("bob", SECRET)
        async with opened(local) as under_test:
            await under_test.pull(name, right)
            for _ in range(2):
                await under_test.pull(name, right)
                assert under_test.reports[-1].unchanged
                for wrong in (Credentials("bob", "wrong"), Credentials("eve", SECRET)):
                    with pytest.raises(errors.AccessDenied):
                        await under_test.pull(name, wrong)
            assert counted.both == (1, 0)
            (process,) = running()
            files = files_of(process)
            assert files["auth"] == b""
            shown = [Path(f"/proc/{process}/{kind}").read_bytes() for kind in ("cmdline", "environ")]  # noqa: ASYNC240
            for secret in (SECRET.encode(), base64.b64encode(f"bob:{SECRET}".encode())):
                assert not [content for content in (*shown, *files.values()) if secret in content]
            with pytest.raises(errors.AccessDenied):
                await under_test.pull(name)
            # One that logs in by itself is never asked without credentials.
            assert counted.both == (2, 0)


async def test_a_cancelled_question_ends_the_proxy(counted: Counted) -> None:
    """When the cancel has come through, it is gone with its credentials, and the next pull works (T14, T17)."""
    with scripted_registry(auth=Auth.BASIC, accounts={"bob": SECRET}) as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(SMALL, "app", "1")
        right = Credentials("bob", SECRET)
        async with opened(local) as under_test:
            await under_test.pull(name, right)
            await under_test.pull(name, right)
            hangs = hub.script(Stage.MANIFEST, Hang())
            task = asyncio.create_task(under_test.pull(name, right))
            await asyncio.to_thread(until, lambda: hangs.reached)
            (process,) = running()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(until, lambda: process not in running())
            hangs.release()
            await under_test.pull(name, right)
            assert under_test.reports[-1].unchanged
            assert counted.both == (2, 0)


async def test_closed_while_a_registry_hangs(counted: Counted) -> None:
    """The backend ends with its proxies, and nothing is asked of anybody after that (T14, T17)."""
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(SMALL, "app", "1")
        async with opened(local) as under_test:
            await under_test.pull(name)
            await under_test.pull(name)
            hangs = hub.script(Stage.MANIFEST, Hang())
            task = asyncio.create_task(under_test.pull(name))
            await asyncio.to_thread(until, lambda: hangs.reached)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not running()
        assert counted.both == (1, 0)


async def test_a_few_proxies_at_most(counted: Counted) -> None:
    """While three hang, others are asked by processes of their own: nobody waits for them (T17)."""
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        names = [hub.put(SMALL, f"app{number}", "1") for number in range(5)]
        async with opened(local) as under_test:
            for name in names:
                await under_test.pull(name)
            hangs = hub.script(Stage.MANIFEST, Hang())
            tasks = [asyncio.create_task(under_test.pull(name)) for name in names]
            await asyncio.to_thread(until, lambda: hangs.reached == len(names))
            assert counted.both == (3, 2)
            assert len(running()) == 3
            hangs.release()
            await asyncio.gather(*tasks)
            assert counted.both == (3, 2)


@pytest.mark.parametrize("when", ["idle", "asking"])
async def test_a_proxy_that_somebody_kills(counted: Counted, when: str) -> None:
    """A pull does without it, and the next has another one (T17)."""
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(SMALL, "app", "1")
        async with opened(local) as under_test:
            await under_test.pull(name)
            await under_test.pull(name)
            (process,) = running()
            if when == "asking":
                hangs = hub.script(Stage.MANIFEST, Hang())
                task = asyncio.create_task(under_test.pull(name))
                await asyncio.to_thread(until, lambda: hangs.reached)
                hangs.release()
                os.kill(process, signal.SIGKILL)
                await task
            else:
                os.kill(process, signal.SIGKILL)
                await asyncio.to_thread(until, lambda: not running())
            for _ in range(2):
                await under_test.pull(name)
                assert under_test.reports[-1].unchanged
            assert counted.proxies == 2


async def test_an_idle_proxy_ends(monkeypatch: pytest.MonkeyPatch, counted: Counted) -> None:
    """Nobody asks for a while, and its memory is free again; the next question has another one (T17)."""
    monkeypatch.setattr(proxies, "_IDLE_SECONDS", 0.1)
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            for _ in range(3):
                await under_test.pull(name)
                await asyncio.to_thread(until, lambda: not running())
            assert counted.both == (2, 0)


async def test_a_proxy_of_many_questions_ends(monkeypatch: pytest.MonkeyPatch, counted: Counted) -> None:
    """It keeps a file open for each image that it has ever opened: it answers so many questions, no more (T17)."""
    monkeypatch.setattr(proxies, "_QUESTIONS", 3)
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            for _ in range(8):
                await under_test.pull(name)
            assert counted.both == (3, 0)


async def test_an_old_proxy_ends(monkeypatch: pytest.MonkeyPatch, counted: Counted) -> None:
    """However often it is asked, it has a deadline: the question after that has another one (T17)."""
    monkeypatch.setattr(proxies, "_LIFE_SECONDS", -1.0)
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            for _ in range(3):
                await under_test.pull(name)
            assert counted.both == (2, 0)


async def test_another_tool_or_namespace_starts_another(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is of one program and one namespace; when the tool has changed, none of the earlier is asked (T17)."""
    found = await asyncio.to_thread(shutil.which, "skopeo")
    assert found is not None
    program = tmp_path / "skopeo"
    script = f'#!/bin/sh\nexec {shlex.quote(found)} "$@"\n'
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local) as under_test:
            await under_test.pull(name)
            for namespace in ("one", "one", "other", "one", "other"):
                await under_test.pull(name, namespace=namespace)
            assert counted.both == (2, 0)
            # As an upgrade does it: another file in the place of the one that runs.
            newer = tmp_path / "newer"
            newer.write_text(f"{script}# another release\n")
            newer.chmod(0o755)
            newer.replace(program)
            for _ in range(2):
                await under_test.pull(name, namespace="one")
            assert counted.both == (3, 0)
            await asyncio.to_thread(until, lambda: len(running()) == 1)


async def test_rules_that_have_changed_start_another(counted: Counted) -> None:
    """registries.conf, policy: the next question is asked by the new ones, and the earlier proxy is gone (C2, C6)."""
    with registry() as hub, registry() as mirror, store() as local:
        mirror.push(OTHER, "app", "1")
        hub.push(SMALL, "app", "1")
        table = '[[registry]]\nprefix = "a.invalid"\nlocation = "{}"\ninsecure = true\n'
        local.write_registries(table.format(hub.address))
        async with opened(local) as under_test:
            first = await under_test.pull("a.invalid/app:1")
            assert await under_test.pull("a.invalid/app:1") is first
            local.write_registries(table.format(mirror.address))
            second = await under_test.pull("a.invalid/app:1")
            assert str(second.id) == OTHER.id.removeprefix("sha256:")
            assert counted.both == (2, 0)
            local.policy.write_text('{"default": [{"type": "insecureAcceptAnything"}], "transports": {}}')
            assert await under_test.pull("a.invalid/app:1") is second
            assert counted.both == (3, 0)
            await asyncio.to_thread(until, lambda: len(running()) == 1)


async def test_what_a_registry_says_goes_the_same_way(counted: Counted) -> None:
    """It closes the connection: the proxy has told so and lives on, and the copy's own failure counts (P5)."""
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(SMALL, "app", "1")
        async with opened(local) as under_test:
            await under_test.pull(name)
            closes = hub.script(Stage.MANIFEST, Close())
            before = len(hub.requests)
            with pytest.raises(errors.RegistryUnavailable):
                await under_test.pull(name)
            refused = len(hub.requests) - before
            closes.release()
            await under_test.pull(name)
            assert under_test.reports[-1].unchanged
            assert counted.both == (1, 0)
        async with opened(local, image_proxy=False) as under_test:
            closes = hub.script(Stage.MANIFEST, Close())
            before = len(hub.requests)
            with pytest.raises(errors.RegistryUnavailable):
                await under_test.pull(name)
            assert len(hub.requests) - before == refused


@pytest.mark.parametrize("hung", [False, True], ids=["idle", "hung"])
def test_a_killed_servers_proxies_end(hung: bool) -> None:
    """After `kill -9` an idle proxy ends by itself, one that hangs is ended by the next server (T14, T17)."""
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(SMALL, "app", "1")
        with criimage(store_config(local)) as server:
            pull = ["criimage", "pull", name, "--endpoint", server.endpoint]
            for _ in range(2):
                at_once(*pull[1:])
            (process,) = running()
            if hung:
                hangs = hub.script(Stage.MANIFEST, Hang())
                with child("client", pull, local.folder / "client-log"):
                    until(lambda: hangs.reached)
                    server.process.process.kill()
            else:
                server.process.process.kill()
            server.process.process.wait()
        place = Path(f"/proc/{process}/cmdline")
        if hung:
            assert b"experimental-image-proxy" in place.read_bytes()
            with criimage(store_config(local)):
                until(lambda: not lives(process))
        else:
            until(lambda: not lives(process))


def lives(process: int) -> bool:
    """Whether a process is there, and no zombie that nobody has collected."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
