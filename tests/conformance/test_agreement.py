"""critest and this command say the same where they ask the same; what outlives a restart is tried with a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.test_real_services import judged, outcomes
from parts.clients import critest
from parts.containerd import containerd
from parts.criimage_process import criimage, restarting, store_config
from parts.critest_images import FOCUS, HOSTS, UNREACHABLE, push_all
from parts.critest_run import SPECS, run_specs
from parts.registry import registry
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

ALIKE = {
    "public image with tag should be pulled and removed": ("P3", "R1"),
    "public image should timeout if requested": ("D1",),
    "public image without tag should be pulled and removed": ("P4",),
    "image status should support all kinds of references": ("S6",),
    "image status get image fields should not have Uid|Username empty": ("S8", "S9", "S10", "S11"),
    "listImage should get exactly 3 image in the result list": ("P7",),
    "listImage should get exactly 3 repoTags in the result image": ("P6",),
    "removing image by one tag should remove all tags": ("R2",),
    "removing image from one registry should remove all tags from other registries": ("P13", "R2"),
    "should not list or get image status immediately after removal": ("R1",),
    "should list and get image status immediately after pulling": ("L3",),
    "should not fail on simultaneous RemoveImage calls": ("R8",),
}
"""Words of critest's specs, and the behaviours that ask the same."""


def test_critest_and_this_command_agree(tmp_path: Path) -> None:
    """On a containerd that knows nothing of either: what passes there passes here, and the reverse."""
    program = critest()
    with registry() as hub:
        push_all(hub)
        with containerd(hosts=dict.fromkeys(HOSTS, hub.address)) as runtime:
            specs = run_specs(program, runtime.endpoint, tmp_path, FOCUS, UNREACHABLE)
            asked = sorted({number for numbers in ALIKE.values() for number in numbers})
            report = judged(tmp_path, runtime.endpoint, *(part for number in asked for part in ("--only", number)))

    assert len(specs) == SPECS
    passed = set(outcomes(report, "passed"))
    for name, (state, message) in specs.items():
        alike = [numbers for words, numbers in ALIKE.items() if words.lower() in name.lower()]
        assert alike, f"nothing asks what critest asks with {name}"
        assert (state == "passed") == ({*alike[0]} <= passed), f"{name}: {message}"


def test_what_outlives_a_restart(tmp_path: Path) -> None:
    """With a command that ends the server and starts it again the group restart passes on containers-storage."""
    with (
        store(registries=insecure_registries("127.0.0.1")) as images,
        criimage(store_config(images)) as server,
        restarting(server) as restart,
    ):
        report = judged(tmp_path, server.endpoint, "--only", "restart", "--restart", restart)

    assert outcomes(report, "passed") == ["X1", "X2", "X3"]
    assert report["exit_code"] == 0
