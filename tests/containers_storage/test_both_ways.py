"""The same answers and the same requests, whether skopeo is kept up to ask a registry or started for it."""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened
from criimage.credentials import Credentials
from criimage.errors import CriimageError
from criimage.testing.certificates import Certificates
from criimage.testing.oci import image, index, layer
from criimage.testing.scripted_registry import Answer, Auth, Close, ScriptedRegistry, Stage, scripted_registry
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.testing.scripted_acts import Act
    from parts.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

SMALL = image(layer({"etc/motd": b"hello"}))
SECRET = "correct.horse"  # noqa: S105 - of a registry that lives as long as the test
HTML = b"<html><body>Sorry</body></html>"


def asked(hub: ScriptedRegistry, since: int) -> list[tuple[str, str, str, int]]:
    """What came after the first so many requests, without what differs by chance."""
    return [(one.method, one.path, one.user, one.status) for one in hub.requests[since:]]


async def unchanged(
    local: Store, hub: ScriptedRegistry, name: str, ours: Credentials | None, **settings: object
) -> None:
    """Pulls what is here three times: each way asks the same of the registry, and copies nothing."""
    seen = []
    for kept_up in (True, False):
        async with opened(local, image_proxy=kept_up, **settings) as under_test:
            first = await under_test.pull(name, ours)
            for _ in range(2):
                since = len(hub.requests)
                assert await under_test.pull(name, ours) == first
                assert under_test.reports[-1].unchanged
                seen.append(asked(hub, since))
    assert seen[0]
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize("how", ["anonymous", "basic", "bearer", "auth file"])
async def test_logins(how: str, tmp_path: Path) -> None:
    """Credentials of the request and of the machine come to the registry in the same way (A8-A11, T12, T17)."""
    auth = {"basic": Auth.BASIC, "bearer": Auth.BEARER, "auth file": Auth.BASIC}.get(how, Auth.NONE)
    with scripted_registry(auth=auth, accounts={"bob": SECRET}) as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(index(SMALL), "team/app", "1")
        entry = {"auth": base64.b64encode(f"bob:{SECRET}".encode()).decode()}
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {hub.address: entry}}))
        ours = Credentials("bob", SECRET) if how in ("basic", "bearer") else None
        settings = {"auth_file": str(tmp_path / "auth.json")} if how == "auth file" else {}
        await unchanged(local, hub, name, ours, **settings)


async def test_certificates(tmp_path: Path) -> None:
    """Certificates of `certs_dir` count for both; without them neither trusts (C7)."""
    made = Certificates.make(tmp_path)
    with scripted_registry(certificates=made) as hub, store() as local:
        # By another name than the one that registries.conf calls insecure.
        name = hub.put(SMALL, "team/app", "1").replace("127.0.0.1", "localhost")
        await unchanged(local, hub, name, None, certs_dir=str(tmp_path / "ca"))
        texts = set()
        for kept_up in (True, False):
            async with opened(local, image_proxy=kept_up) as under_test:
                with pytest.raises(CriimageError, match="x509") as caught:
                    await under_test.pull(name)
                texts.add(caught.value.text)
        assert len(texts) == 1


async def test_mirrors() -> None:
    """The first mirror fails, the second answers, with what is meant for it alone (C4, A10)."""
    with (
        scripted_registry() as broken,
        scripted_registry(auth=Auth.BASIC, accounts={"mirror": "m1"}) as mirror,
        store() as local,
    ):
        mirror.put(SMALL, "copy/app", "1")
        local.write_registries(
            '[[registry]]\nprefix = "hub.invalid/app"\nlocation = "hub.invalid/app"\n'
            f'[[registry.mirror]]\nlocation = "{broken.address}/none"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{mirror.address}/copy/app"\ninsecure = true\n'
        )
        auth = base64.b64encode(b"mirror:m1").decode()
        (local.folder / "auth.json").write_text(json.dumps({"auths": {mirror.address: {"auth": auth}}}))
        ours = Credentials("caller", SECRET)
        await unchanged(local, mirror, "hub.invalid/app:1", ours, auth_file=str(local.folder / "auth.json"))
        assert {one.user for one in mirror.requests} <= {"", "mirror"}


@pytest.mark.parametrize("by_index", [False, True], ids=["manifest", "index"])
async def test_what_a_registry_does_to_an_image_that_is_here(by_index: bool) -> None:
    """Each failure has the same text, and each refusal costs the registry the same requests (P5, section 8)."""
    acts: list[Act] = [
        Answer(401, HTML),
        Answer(403, HTML),
        Answer(404, HTML),
        Answer(500, HTML),
        Answer(503, HTML),
        Answer(200, HTML),
        Answer(200, b"null", {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}),
        Close(),
    ]
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(index(SMALL) if by_index else SMALL, "team/app", "1")
        seen = []
        for kept_up in (True, False):
            async with opened(local, image_proxy=kept_up) as under_test:
                await under_test.pull(name)
                await under_test.pull(name)
                for act in acts:
                    script = hub.script(Stage.MANIFEST, act)
                    since = len(hub.requests)
                    with pytest.raises(CriimageError) as caught:
                        await under_test.pull(name)
                    script.release()
                    # What is no manifest is no refusal either: it is asked for once more by a process.
                    refused = not isinstance(act, Answer) or act.status != HTTPStatus.OK
                    seen.append((act, caught.value.text, asked(hub, since) if refused else []))
                await under_test.pull(name)
                assert under_test.reports[-1].unchanged
        for kept, plain in zip(seen[: len(acts)], seen[len(acts) :], strict=True):
            assert kept == plain
