"""critest's own specs for images, against a running criimage on a real store (peers-observed 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parts.clients import critest
from parts.criimage_process import criimage, store_config
from parts.critest_images import push_all, registries_conf
from parts.critest_run import assert_image_specs_pass
from parts.missing import need, need_root
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def test_every_image_spec_that_can_run_passes(tmp_path: Path) -> None:
    """All image specs pass but the pods' and the one whose digest cannot be reproduced (cri-protocol 3.2)."""
    need("skopeo", "docker-registry")
    need_root()
    program = critest()
    with registry() as images, store(registries=registries_conf(images.address)) as place:
        push_all(images)
        with criimage(store_config(place)) as server:
            assert_image_specs_pass(program, server.endpoint, tmp_path)
