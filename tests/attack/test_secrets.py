"""Claim: secrets are shown nowhere on any backend, and the search for them would find one that is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attack.__main__ import attacked
from attack.case import all_cases
from attack.target import opened

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

CASES = [case for case in all_cases() if case.kind == "secrets"]

# Runs before anything else in the server's process.
_FAULT = """
from criimage.masking import Secrets

sound = Secrets.of.__func__

def faulty(cls, credentials):
    if credentials is None or not credentials.TOKEN:
        return sound(cls, credentials)
    return cls()

Secrets.of = classmethod(faulty)
"""
_MACHINE_FAULT = """
from criimage.masking import NO_SECRETS, Secrets

Secrets.of_auth_file = classmethod(lambda cls, document: NO_SECRETS)
"""


@pytest.mark.parametrize("backend", ["containers-storage", "docker", "cri"])
async def test_nothing_that_is_echoed_is_shown(backend: str) -> None:
    """Issue 8, item 5: every kind of credentials, echoed in plain, base64, URL and JSON escapes."""
    chosen = [case for case in CASES if not case.backends or backend in case.backends]
    async with opened(backend, level="debug") as target:
        failed = {case.name: fault for case in chosen if (fault := await attacked(target, case))}
    assert not failed
    assert len(chosen) > 5


@pytest.mark.parametrize(
    ("backend", "fault", "kind"),
    [
        ("docker", _FAULT.replace("TOKEN", "identity_token"), "an identity token"),
        ("docker", _FAULT.replace("TOKEN", "registry_token"), "a registry token"),
        ("containers-storage", _FAULT.replace("TOKEN", "identity_token"), "an identity token"),
        ("containers-storage", _MACHINE_FAULT, "the machine's own"),
    ],
    ids=["identity token", "registry token", "identity token to skopeo", "auth file"],
)
async def test_what_is_left_out_is_found(backend: str, fault: str, kind: str, tmp_path: Path) -> None:
    """Planted faults: each secret that masking does not know is found by one of the cases at least."""
    (tmp_path / "sitecustomize.py").write_text(fault)
    chosen = [case for case in CASES if case.name.startswith(kind) and backend in case.backends]
    async with opened(backend, environment={"PYTHONPATH": str(tmp_path)}, level="debug") as target:
        faults = [await attacked(target, case) for case in chosen if "echoed" in case.name]
    assert any(fault.startswith("AssertionError: ") and "never had" not in fault for fault in faults), faults
