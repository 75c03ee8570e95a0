"""critest's image specs, run against a server, and what must come of them (cri-protocol 3.2)."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from parts.critest_images import FOCUS, UNREACHABLE

if TYPE_CHECKING:
    from pathlib import Path

SPECS = 12
"""How many specs critest 1.36.0 has about images that need neither pods nor an image that cannot be made."""


def assert_image_specs_pass(program: Path, endpoint: str, folder: Path) -> None:
    """Runs every image spec that can run, and sees all of them pass.

    Args:
        program: critest, see `parts.clients`.
        endpoint: `unix:///PATH` of the server.
        folder: for its report.
    """
    report = folder / "report.json"
    done = subprocess.run(
        [
            program,
            f"-runtime-endpoint={endpoint}",
            f"-ginkgo.focus={FOCUS}",
            f"-ginkgo.skip={UNREACHABLE}",
            f"-ginkgo.json-report={report}",
            "-ginkgo.no-color",
        ],
        cwd=folder,
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
