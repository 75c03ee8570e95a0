"""What a pod's namespace changes: its own policy, its own auth file."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened
from criimage import errors
from criimage.credentials import Credentials
from criimage.testing.oci import image, layer
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

SMALL = image(layer({"a": b"a"}))
SECRET = "correct.horse"  # noqa: S105 - of a registry that lives as long as the test


async def test_a_namespaces_own_policy(tmp_path: Path) -> None:
    """`policy_dir` holds policies by namespace; they apply to images that are here already as well (C1, P9)."""
    (tmp_path / "strict.json").write_text('{"default": [{"type": "reject"}]}')
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local, policy_dir=str(tmp_path)) as under_test:
            await under_test.pull(name, namespace="other")
            await under_test.pull(name)
            with pytest.raises(errors.SignatureRejected, match="rejected by policy"):
                await under_test.pull(name, namespace="strict")
            with pytest.raises(errors.InvalidRequest, match="namespace"):
                await under_test.pull(name, namespace="../strict")


def put_down(folder: Path, namespace: str, repository: str, content: str) -> Path:
    """Does what a credential provider does."""
    file = folder / f"{namespace}-{hashlib.sha256(repository.encode()).hexdigest()}.json"
    file.write_text(content)
    return file


async def test_a_namespaces_own_auth_file_serves_one_pull(tmp_path: Path) -> None:
    """Used once, for its namespace and repository, then gone; the request's credentials still win (A11)."""
    entry = {"auth": base64.b64encode(f"bob:{SECRET}".encode()).decode()}
    with registry(username="bob", password=SECRET) as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        content = json.dumps({"auths": {hub.address: entry}})
        async with opened(local, namespaced_auth_dir=str(tmp_path)) as under_test:
            file = put_down(tmp_path, "team", f"{hub.address}/app", content)
            with pytest.raises(errors.AccessDenied):
                await under_test.pull(name, namespace="other")
            assert await asyncio.to_thread(file.exists)
            await under_test.pull(name, namespace="team")
            assert not await asyncio.to_thread(file.exists)
            with pytest.raises(errors.AccessDenied):
                await under_test.pull(name, namespace="team")
            put_down(tmp_path, "team", f"{hub.address}/app", content)
            with pytest.raises(errors.AccessDenied):
                await under_test.pull(name, Credentials("bob", "wrong"), namespace="team")
            put_down(tmp_path, "team", f"{hub.address}/app", "{")
            with pytest.raises(errors.PullError, match="namespace team is not valid"):
                await under_test.pull(name, namespace="team")
        assert [entry.name for entry in tmp_path.rglob("*")] == ["in-use"]  # noqa: ASYNC240
