"""The command on docker and on cri: required behaviours all, and what differs is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.reports import SERVICES
from conformance.test_real_services import judged, outcomes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.mark.parametrize("name", ["docker", "cri"])
def test_a_backend_does_all_but_what_is_known(name: str, tmp_path: Path) -> None:
    """Nothing fails that is not in the file of known differences, and each of those is still there."""
    serving, arguments = SERVICES[name]
    with serving() as endpoint:
        report = judged(tmp_path, endpoint, *arguments)

    assert outcomes(report, "failed") + outcomes(report, "unexpected pass") + outcomes(report, "suite error") == []
    assert report["exit_code"] == 0
