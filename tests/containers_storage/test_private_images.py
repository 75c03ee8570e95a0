"""Pulls that need credentials, and who gets to see them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from containers_storage.hanging_registry import HangingRegistry, hanging_registry
from containers_storage.opened import opened, texts
from criimage import errors
from criimage.credentials import Credentials
from criimage.testing.oci import image, layer
from parts.registry import registry
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo", "each_way")]

SMALL = image(layer({"etc/motd": b"hello"}))
SECRET = "correct.horse"  # noqa: S105 - of a registry that lives as long as the test


async def test_private_images_ask_for_these_credentials() -> None:
    """Right ones work; none and wrong ones are refused, also when the image is here already (P4, protocol 2.5b)."""
    with registry(username="bob", password=SECRET) as hub, store() as local:
        name = hub.push(SMALL, "private", "1")
        async with opened(local) as under_test:
            with pytest.raises(errors.AccessDenied, match="unauthorized"):
                await under_test.pull(name)
            assert await under_test.backend.images() == ()
            await under_test.pull(name, Credentials("bob", SECRET))
            for wrong in (None, Credentials("bob", "wrong"), Credentials("eve", SECRET)):
                with pytest.raises(errors.AccessDenied) as caught:
                    await under_test.pull(name, wrong)
                assert SECRET not in caught.value.text
            assert len(await under_test.backend.images()) == 1
            with pytest.raises(errors.AccessDenied, match="registry token"):
                await under_test.pull(name, Credentials(registry_token="t"))  # noqa: S106


async def test_the_machines_auth_file_serves_those_who_bring_none(tmp_path: Path) -> None:
    """`auth_file` is used for pulls without credentials and never in place of the caller's (A8-A10)."""
    with registry(username="bob", password=SECRET) as hub, store() as local:
        name = hub.push(SMALL, "private", "1")
        auth = base64.b64encode(f"bob:{SECRET}".encode()).decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {hub.address: {"auth": auth}}}))
        async with opened(local, auth_file=str(tmp_path / "auth.json")) as under_test:
            await under_test.pull(name)
            with pytest.raises(errors.AccessDenied):
                await under_test.pull(name, Credentials("bob", "wrong"))


async def test_mirrors_never_get_what_was_meant_for_the_registry(tmp_path: Path) -> None:
    """A mirror on another host is asked with the machine's entry for it, the registry with the caller's (A10, C4)."""
    with registry(username="mirror", password="m1") as mirror, store() as local:  # noqa: S106
        mirror.push(SMALL, "copy/app", "1")
        local.write_registries(
            insecure_registries("127.0.0.1")
            + f'[[registry]]\nprefix = "hub.invalid/app"\nlocation = "hub.invalid/app"\n'
            f'[[registry.mirror]]\nlocation = "{mirror.address}/copy/app"\ninsecure = true\n'
        )
        auth = base64.b64encode(b"mirror:m1").decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {mirror.address: {"auth": auth}}}))
        async with opened(local, auth_file=str(tmp_path / "auth.json")) as under_test:
            pulled = await under_test.pull("hub.invalid/app:1", Credentials("caller", SECRET))
            assert texts(pulled.tags) == ["hub.invalid/app:1"]
        async with opened(local, auth_file=str(tmp_path / "none.json"), skip_unchanged=False) as under_test:
            with pytest.raises(errors.RegistryUnavailable):  # the registry's own error, not the mirror's (E4)
                await under_test.pull("hub.invalid/app:1", Credentials("mirror", "m1"))


async def test_a_proxy_is_used_and_its_secret_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy reaches skopeo; what it answers never shows its password (T12)."""
    with hanging_registry(HangingRegistry(SMALL)) as hub, store() as local:
        local.write_registries(insecure_registries("hub.invalid"))
        monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@127.0.0.1:{hub.port}")
        async with opened(local) as under_test:
            pulled = await under_test.pull("hub.invalid/app:1")
            assert texts(pulled.tags) == ["hub.invalid/app:1"]
            assert await under_test.pull("hub.invalid/app:1") is pulled
            assert under_test.reports[-1].unchanged
            hub.status, hub.body = 500, f"proxy says me:{SECRET}".encode()
            with pytest.raises(errors.PullError) as caught:
                await under_test.pull("hub.invalid/app:2")
            assert SECRET not in caught.value.text


HELPER = """#!/bin/sh
read -r host
echo "$host" >>{asked}
echo '{{"ServerURL": "", "Username": "bob", "Secret": "{secret}"}}'
"""


@pytest.mark.parametrize("listed", [["it", "containers-auth.json"], ["containers-auth.json", "it"], ["it"]])
async def test_the_requests_credentials_win_over_every_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str]
) -> None:
    """A wrong password pulls nothing by the node's own rights, in whatever order it keeps its places (A5, A9, A11)."""
    helper, asked = tmp_path / "docker-credential-it", tmp_path / "asked"
    helper.write_text(HELPER.format(asked=asked, secret=SECRET))
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{tmp_path}")
    drop_ins = tmp_path / ".config/containers/registries.conf.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "zz.conf").write_text(f"credential-helpers = {json.dumps(listed)}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with registry(username="bob", password=SECRET) as hub, store() as local:
        name = hub.push(SMALL, "private", "1")
        async with opened(local) as under_test:
            for wrong in (Credentials("bob", "wrong"), Credentials("eve", SECRET)):
                with pytest.raises(errors.AccessDenied, match="unauthorized"):
                    await under_test.pull(name, wrong)
            assert not await asyncio.to_thread(asked.exists), "for what the request brings nobody else is asked"
            await under_test.pull(name)
            assert await asyncio.to_thread(asked.exists), "the helper is one that works"
            with pytest.raises(errors.AccessDenied, match="unauthorized"):
                await under_test.pull(name, Credentials("bob", "wrong"))
            await under_test.pull(name, Credentials("bob", SECRET))
