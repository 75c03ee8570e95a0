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
    ran = run_specs(program, endpoint, folder, FOCUS, UNREACHABLE)
    failed = {name: message for name, (state, message) in ran.items() if state != "passed"}
    assert failed == {}
    assert len(ran) == SPECS


def run_specs(program: Path, endpoint: str, folder: Path, focus: str, skip: str) -> dict[str, tuple[str, str]]:
    """Runs some specs, and returns the state of each that was not skipped, and what it failed with.

    Args:
        program: critest, see `parts.clients`.
        endpoint: `unix:///PATH` of the server.
        folder: for its report.
        focus: what the specs' names match.
        skip: what those match that are left out.
    """
    report = folder / "report.json"
    done = subprocess.run(
        [
            program,
            f"-runtime-endpoint={endpoint}",
            f"-ginkgo.focus={focus}",
            f"-ginkgo.skip={skip}",
            f"-ginkgo.json-report={report}",
            "-ginkgo.no-color",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert report.exists(), done.stdout + done.stderr
    return {
        " ".join([*spec["ContainerHierarchyTexts"], spec["LeafNodeText"]]): (
            spec["State"],
            spec.get("Failure", {}).get("Message", ""),
        )
        for suite in json.loads(report.read_text())
        for spec in suite["SpecReports"]
        if spec["LeafNodeType"] == "It" and spec["State"] != "skipped"
    }
