"""critest's own specs for images, against a running criimage on a real store (peers-observed 1)."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from parts.clients import critest
from parts.criimage_process import criimage, store_config
from parts.critest_images import FOCUS, UNREACHABLE, push_all, registries_conf
from parts.missing import need, need_root
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SPECS = 12
"""How many specs critest 1.36.0 has about images that need neither pods nor an image that cannot be made."""


def test_every_image_spec_that_can_run_passes(tmp_path: Path) -> None:
    """All image specs pass but the pods' and the one whose digest cannot be reproduced (cri-protocol 3.2)."""
    need("skopeo", "docker-registry")
    need_root()
    program = critest()
    report = tmp_path / "report.json"
    with registry() as images, store(registries=registries_conf(images.address)) as place:
        push_all(images)
        with criimage(store_config(place)) as server:
            done = subprocess.run(
                [
                    program,
                    f"-runtime-endpoint={server.endpoint}",
                    f"-ginkgo.focus={FOCUS}",
                    f"-ginkgo.skip={UNREACHABLE}",
                    f"-ginkgo.json-report={report}",
                    "-ginkgo.no-color",
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )

    assert report.exists(), done.stdout + done.stderr
    ran = [
        spec
        for suite in json.loads(report.read_text())
        for spec in suite["SpecReports"]
        if spec["LeafNodeType"] == "It" and spec["State"] != "skipped"
    ]
    failed = {spec["LeafNodeText"]: spec.get("Failure", {}).get("Message") for spec in ran if spec["State"] != "passed"}
    assert failed == {}, done.stdout[-4000:]
    assert len(ran) == SPECS
