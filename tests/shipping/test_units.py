"""Claims: systemd accepts the units as they are written, and what they leave open is what the page says."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from criimage.cli import main
from criimage.errors import ConfigurationError
from criimage.shipping.units import service_unit, unit_name
from documentation.pages import page
from parts.missing import need

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The folder of an installation's units, and of the pages they refer to."""
    result = CliRunner().invoke(main, ["install", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    return tmp_path / "etc/systemd/system"


@pytest.mark.engine
def test_systemd_accepts_them(units: Path) -> None:
    """No word of complaint about unit, socket unit, and a command in a folder with a space."""
    need("systemd-analyze")
    odd = units / "odd.service"
    command = units / "a b"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    odd.write_text(service_unit([str(command)], ["kubelet.service"], ["kubelet.service"]))
    for unit in (units / "criimage.service", units / "criimage.socket", odd):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), unit


@pytest.mark.engine
def test_what_they_leave_open_is_documented(units: Path) -> None:
    """The exposure that `systemd-analyze security` sees is the figure of the page, to half a point."""
    need("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(units / "criimage.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    seen = re.search(r"Overall exposure level for criimage.service: ([0-9.]+)", done.stdout)
    told = re.search(r"exposure level of ([0-9.]+)", page("guide/systemd"))
    assert seen, done.stdout + done.stderr
    assert told
    # Each version of systemd weighs a little differently.
    assert abs(float(seen[1]) - float(told[1])) <= 0.5


def test_they_need_no_program_that_a_bare_machine_has_not(units: Path) -> None:
    """A minimal Debian has no /bin/kill: whatever they run is criimage itself or the shell."""
    run = re.findall(r"^Exec\w*=(\S+)", (units / "criimage.service").read_text(), re.MULTILINE)
    assert len(run) == 2
    assert {program for program in run if not program.endswith("/criimage")} == {"/bin/sh"}


def test_a_command_that_no_unit_can_start_is_told() -> None:
    """A path that systemd would read in another way is an error and no unit."""
    for path in ("/a$b", "/a%b", "/a\nb", '/a"b', "/a\\b"):
        with pytest.raises(ConfigurationError):
            service_unit([path], ["kubelet.service"], [])


@pytest.mark.parametrize("text", ["", "a b", "a\nb.service", "../x", "a/b.service", "x" * 300])
def test_what_is_no_unit_is_refused(text: str) -> None:
    """A name that systemd would not take, or that would be more than one word of the unit, is an error."""
    with pytest.raises(ConfigurationError):
        unit_name(text)


def test_a_name_without_an_ending_is_a_service() -> None:
    """As systemctl has it."""
    assert unit_name("kubelet") == "kubelet.service"
    assert unit_name("my.kubelet") == "my.kubelet.service"
    assert unit_name("boot.target") == "boot.target"
