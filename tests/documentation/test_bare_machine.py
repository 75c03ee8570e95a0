"""Claims: what README and the tutorials tell to type works as it stands, in order, on a machine with nothing on it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from criimage.cli import main
from criimage.testing.certificates import Certificates
from criimage.testing.oci import image
from criimage.testing.scripted_registry import scripted_registry
from documentation.pages import PROJECT, blocks
from documentation.transcripts import keep, without_installers
from documentation.typed_blocks import SERVING, blocks_for, command_blocks, every_page
from documentation.unit_pages import appended_settings, typed_units
from parts.bare_machine import BareMachine, bare_machine
from parts.clients import crictl, grpcurl
from parts.forwarder import forwarder
from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = every_page()

_REGISTRY = "registry.k8s.io"
# Of this run alone: others may be at the same pages.
_ADDRESS = f"127.83.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"

_SYSTEMD = "apt-get install -y systemd systemd-sysv"
"""What a Debian from an installer has, and one from debootstrap has not."""


def commands(test: str, *pages: str) -> list[str]:
    """The lines of these pages that a test types, page after page."""
    lines = "".join(block for page in pages for block in blocks_for(test, page)).splitlines()
    typed = [line for line in lines if line.split("#")[0].strip() != "make test"]
    return [SERVING if line.split("#")[0].strip() == "criimage serve" else line for line in typed]


def installing() -> list[str]:
    """The lines of the first steps that install criimage."""
    lines = command_blocks("docs/tutorials/first-steps")[1].splitlines()
    return ["apt-get update", *lines]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[BareMachine]:
    """A bare machine with a clone in /root/criimage, that reaches a registry with one image."""
    need("openssl", "git")
    certificates = Certificates.make(tmp_path, _REGISTRY)
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(scripted_registry(certificates=certificates))
        hub.put(image(), "pause", "3.9")
        stack.enter_context(forwarder(_ADDRESS, 443, int(hub.address.rpartition(":")[2])))
        machine = stack.enter_context(bare_machine())
        machine.write("/etc/hosts", f"127.0.0.1 localhost\n{_ADDRESS} {_REGISTRY}\n")
        machine.trust(certificates.ca_folder / "ca.crt")
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(machine.root / "root" / "criimage")], check=True)
        yield machine


def typed_on(machine: BareMachine, *lines: str) -> str:
    """Types this in the clone; returns what was shown."""
    ended = machine.run("\n".join(lines), folder="/root/criimage")
    keep(_this_test(), ended.stdout)
    assert ended.returncode == 0, ended.stdout[-4000:]
    return ended.stdout


def typed_under_systemd(machine: BareMachine, *lines: str) -> str:
    """The same where systemd is process 1."""
    code, shown = machine.boot("\n".join(lines), folder="/root/criimage")
    keep(_this_test(), shown)
    assert code == 0, shown[-4000:]
    return shown


def _this_test() -> str:
    return os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]


def give(machine: BareMachine, *programs: Path) -> None:
    """Lets the machine have programs that Debian 12 has no packages of."""
    for program in programs:
        shutil.copy(program, machine.root / "usr" / "local" / "bin" / program.name)


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_the_readme(machine: BareMachine) -> None:
    """The demo, an installation and the first commands; README's other command is what CI runs."""
    shown = typed_on(machine, *commands("test_the_readme", "README"))

    assert "Done; the registry, the server and the store are gone again." in shown
    assert "ok: containers-storage can work here" in shown
    assert re.search(rf"^{_REGISTRY}/pause +3\.9 ", shown, re.MULTILINE), shown[-3000:]


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_the_demo_as_another_user(machine: BareMachine) -> None:
    """README says that it works for a user who is not root, where the tools are; without a session's folders too."""
    typed_on(
        machine,
        "apt-get update",
        "apt-get install -y git make python3 skopeo docker-registry busybox-static uidmap python3-venv",
        "useradd --create-home ada",
        "cp -r /root/criimage /home/ada/ && chown -R ada /home/ada/criimage",
    )
    shown = typed_on(machine, "cd /home/ada/criimage && su ada -c 'make demo'")

    assert "Done; the registry, the server and the store are gone again." in shown
    assert not list((machine.root / "tmp").iterdir())


def test_transcripts_have_no_installers_talk() -> None:
    """Of two commands, one of them apt's, only what was typed and what criimage says."""
    shown = [
        "+ apt-get install -y git",
        "Get:1 http://mirror.example/debian bookworm InRelease [151 kB]",
        "The following NEW packages will be installed:",
        "  git make",
        "  python3",
        "Setting up git (1:2.39.5-0+deb12u2) ...",
        "+ criimage images",
        "  of no list",
        "half a bar\rthe whole bar",
    ]
    kept = ["+ apt-get install -y git", "+ criimage images", "  of no list", "the whole bar"]
    assert list(without_installers(shown)) == kept


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_the_first_steps(machine: BareMachine) -> None:
    """From nothing to an image, with criimage's own commands and with crictl."""
    give(machine, crictl())

    shown = typed_on(machine, *commands("test_the_first_steps", "docs/tutorials/first-steps"))

    assert "ok: containers-storage can work here" in shown
    assert "aiodocker and aiohttp not installed" in shown
    assert "RuntimeName:  criimage" in shown
    assert "Deleted: registry.k8s.io/pause:3.9" in shown


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_a_kubelet_on_one_socket(machine: BareMachine) -> None:
    """A containerd of systemd's behind criimage's one socket; criimage itself is installed as the first steps say."""
    give(machine, crictl())
    typed_on(machine, *installing(), _SYSTEMD)

    shown = typed_under_systemd(machine, *commands("test_a_kubelet_on_one_socket", "docs/tutorials/first-kubelet"))

    assert "ok: cri can work here" in shown
    assert "RuntimeName:  containerd" in shown
    assert len(re.findall(rf"^{_REGISTRY}/pause +3\.9 ", shown, re.MULTILINE)) == 2, shown[-3000:]


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_an_upgrade_and_the_end(machine: BareMachine) -> None:
    """A unit from its installation to its end, as the pages have it, watched and upgraded meanwhile.

    Uninstalled nothing of it is left but settings that were changed and the images.
    """
    give(machine, crictl(), grpcurl())
    typed_on(machine, *installing(), "apt-get install -y curl git make", _SYSTEMD)
    demo = typed_on(machine, *commands("test_an_upgrade_and_the_end", "docs/index"))
    assert "Done; the registry, the server and the store are gone again." in demo
    installed = blocks_for("test_an_upgrade_and_the_end", "docs/guide/install")
    units = blocks_for("test_an_upgrade_and_the_end", "docs/guide/systemd")
    figures, tracing, health = blocks_for("test_an_upgrade_and_the_end", "docs/guide/metrics-and-logs")
    (upgrade,) = blocks_for("test_an_upgrade_and_the_end", "docs/guide/upgrade")
    (end,) = blocks_for("test_an_upgrade_and_the_end", "docs/guide/uninstall")
    look, start = installed

    shown = typed_under_systemd(
        machine,
        look,
        start,
        f"criimage pull {_REGISTRY}/pause:3.9",
        *typed_units(units),
        *appended_settings(),
        tracing,
        "systemctl restart criimage",
        figures,
        health,
        upgrade,
        "criimage images",
        end,
    )

    assert re.search(r"^criimage_problems\{.*\} 0\.0$", shown, re.MULTILINE)
    assert '"status": "SERVING"' in shown
    assert re.search(rf"^{_REGISTRY}/pause +3\.9 ", shown, re.MULTILINE), shown[-3000:]
    left = [path for path in machine.root.rglob("*criimage*") if "root/criimage" not in str(path)]
    assert {str(path.relative_to(machine.root)) for path in left} == {"etc/criimage"}
    assert [path.name for path in (machine.root / "etc/criimage").iterdir()] == ["config.toml"]
    assert list((machine.root / "var/lib/containers/storage").glob("*-images/images.json"))


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(3000)
def test_a_package_of_ones_own(machine: BareMachine) -> None:
    """Built in the clone for both Debians, installed by apt, started and purged: it answers, and nothing is left."""
    build, install = blocks_for("test_a_package_of_ones_own", "docs/guide/install")
    typed_on(machine, "apt-get update && apt-get install -y git make python3", _SYSTEMD, build)

    (end,) = blocks_for("test_a_package_of_ones_own", "docs/guide/uninstall")
    gone = "! systemctl is-active criimage"
    shown = typed_under_systemd(machine, install, "systemctl is-active criimage", "criimage version", end, gone)

    assert re.search("^runtime_name +criimage$", shown, re.MULTILINE), shown[-3000:]
    left = [path for path in machine.root.rglob("*criimage*") if "root/" not in str(path.relative_to(machine.root))]
    assert left == []


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(3000)
def test_what_a_contributor_types(machine: BareMachine) -> None:
    """Checks and pages from a clone on a machine with nothing on it; the page's other command is what CI runs."""
    lines = commands("test_what_a_contributor_types", "CONTRIBUTING")
    shown = typed_on(machine, "apt-get update && apt-get install -y git make python3", *lines)

    assert re.search(r"\d+ pages, no faults", shown), shown[-3000:]


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_what_pages_tell_to_type_can_be_typed(file: Path) -> None:
    """Every block of shell is one, and every command `criimage` in it has arguments and options that there are."""
    for block in blocks(file.read_text("utf-8"), "sh"):
        read = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), block
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            while words and words[-1] in {"&", "|"}:
                words.pop()
            if words[:1] == ["criimage"]:
                end = next(
                    (i for i, word in enumerate(words) if word in {"|", "&&", ";"} or word[0] in "<>"), len(words)
                )
                _parse(main, words[1:end])


def _parse(command: click.Command, words: list[str]) -> None:
    context = click.Context(command)
    while words and isinstance(command, click.Group) and words[0] in command.list_commands(context):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None
        command = found
    assert command is not main or words, "criimage alone does nothing"
    command.make_context("criimage", words)
