"""A registry that sends back all that it got, in every spelling, asked by each skopeo: nobody else sees a secret.

The whole service, on every backend and with every kind of credentials, is attack/test_secrets.py.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import structlog

from containers_storage.opened import opened
from criimage import errors
from criimage.credentials import Credentials
from parts.echo_registry import echo, traces
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]

SECRET = 'Corridor/rect+horseshoe "b&tt<eryacid'  # noqa: S105 - of nobody


@pytest.mark.parametrize("whose", ["the request's", "the machine's"])
async def test_what_a_registry_sends_back_is_masked(tmp_path: Path, whose: str) -> None:
    """Issue 8, item 5: the caller's credentials, and the machine's, of which a caller without any knows nothing."""
    with echo() as registry, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        auth = base64.b64encode(f"bob:{SECRET}".encode()).decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
        ours = Credentials("bob", SECRET) if whose == "the request's" else None
        with structlog.testing.capture_logs() as logged:
            async with opened(local, auth_file=str(tmp_path / "auth.json")) as under_test:
                with pytest.raises(errors.CriimageError) as caught:
                    await under_test.pull(f"{registry.address}/team/app:1", ours)
        assert registry.got(SECRET), "the registry was never asked with credentials"
        assert "…" in caught.value.text
        wanted = traces(SECRET)
        for text in (caught.value.text, repr(caught.value), json.dumps(logged, default=repr)):
            assert not wanted.search(text.encode()), text
        left = [file for file in local.folder.rglob("*") if file.is_file() and wanted.search(file.read_bytes())]
        assert left == []
