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
from documentation.pages import DOCS, PROJECT, blocks
from parts.bare_machine import BareMachine, bare_machine
from parts.clients import crictl
from parts.forwarder import forwarder
from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = PROJECT / "README.md"
FIRST_STEPS = DOCS / "tutorials" / "first-steps.md"
FIRST_KUBELET = DOCS / "tutorials" / "first-kubelet.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

_ELSEWHERE = frozenset({"make test"})
"""What CI itself is: `.ci/run` runs it, and nothing else."""

_REGISTRY = "registry.k8s.io"
# Of this run alone: others may be at the same pages.
_ADDRESS = f"127.83.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"

_SERVING = """
criimage serve &
for _ in $(seq 100); do criimage status && break; sleep 0.2; done
criimage status
"""
"""A server that a page leaves running in one terminal while the rest is typed in another."""

_SYSTEMCTL = """#!/bin/sh
# Stands in for systemd, which is process 1 of a real machine: starts and ends what its units would.
socket=/run/criimage/criimage.sock
end() { test ! -e /run/pid || { kill "$(cat /run/pid)"; while test -S $socket; do sleep 0.2; done; rm /run/pid; }; }
case "$*" in
"restart containerd")
    containerd >/var/log/containerd.log 2>&1 &
    socket=/run/containerd/containerd.sock ;;
"restart criimage")
    end
    mkdir -p /run/criimage
    criimage serve >/var/log/criimage.log 2>&1 &
    echo $! >/run/pid ;;
"disable --now criimage.socket criimage.service") end; exit 0 ;;
daemon-reload) exit 0 ;;
*) exit 1 ;;
esac
for _ in $(seq 100); do test -S $socket && exit 0; sleep 0.2; done
exit 1
"""


def commands_of(file: Path) -> list[str]:
    """The lines that a page tells to type, in its order."""
    lines = "".join(blocks(file.read_text("utf-8"), "sh")).splitlines()
    typed = [line for line in lines if line.split("#")[0].strip() not in _ELSEWHERE]
    return [_SERVING if line.split("#")[0].strip() == "criimage serve" else line for line in typed]


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
        machine.write("/usr/local/bin/systemctl", _SYSTEMCTL, mode=0o755)
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(machine.root / "root" / "criimage")], check=True)
        yield machine


def typed_on(machine: BareMachine, *pages: Path) -> str:
    """Types all that these pages tell to, one page after the other; returns what was shown."""
    typed = [line for file in pages for line in commands_of(file)]
    ended = machine.run("\n".join(typed), folder="/root/criimage")
    assert ended.returncode == 0, ended.stdout[-4000:]
    return ended.stdout


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_the_readme(machine: BareMachine) -> None:
    """The demo, an installation and the first commands; README's other command is what CI runs."""
    shown = typed_on(machine, README)

    assert "Done; the registry, the server and the store are gone again." in shown
    assert "ok: containers-storage can work here" in shown
    assert re.search(rf"^{_REGISTRY}/pause +3\.9 ", shown, re.MULTILINE), shown[-3000:]


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_the_first_steps(machine: BareMachine) -> None:
    """From nothing to an image, with criimage's own commands and with crictl."""
    shutil.copy(crictl(), machine.root / "usr" / "local" / "bin" / "crictl")

    shown = typed_on(machine, FIRST_STEPS)

    assert "ok: containers-storage can work here" in shown
    assert "aiodocker and aiohttp not installed" in shown
    assert "RuntimeName:  criimage" in shown
    assert "Deleted: registry.k8s.io/pause:3.9" in shown


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_a_kubelet_on_one_socket(machine: BareMachine) -> None:
    """A containerd behind criimage's one socket; criimage itself is installed as the first steps say."""
    shutil.copy(crictl(), machine.root / "usr" / "local" / "bin" / "crictl")
    first = commands_of(FIRST_STEPS)
    installing = first[first.index("make demo") + 1 : first.index("criimage config check")]
    begun = machine.run("\n".join(["apt-get update", *installing]), folder="/root/criimage")
    assert begun.returncode == 0, begun.stdout[-3000:]

    shown = typed_on(machine, FIRST_KUBELET)

    assert "ok: cri can work here" in shown
    assert "RuntimeName:  containerd" in shown
    assert len(re.findall(rf"^{_REGISTRY}/pause +3\.9 ", shown, re.MULTILINE)) == 2, shown[-3000:]


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_an_upgrade_and_the_end(machine: BareMachine) -> None:
    """Upgraded it serves, uninstalled nothing of it is left but settings that were changed and the images."""
    first = commands_of(FIRST_STEPS)
    installing = first[first.index("make demo") + 1 : first.index("criimage config check")]
    before = [
        "apt-get update",
        *installing,
        "criimage install",
        "criimage --version",
        "systemctl restart criimage",
        f"criimage pull {_REGISTRY}/pause:3.9",
        "echo '# mine' >>/etc/criimage/config.toml",
    ]
    upgrade, uninstall = (commands_of(DOCS / "guide" / f"{name}.md") for name in ("upgrade", "uninstall"))
    ended = machine.run("\n".join((*before, *upgrade, "criimage images", *uninstall)), folder="/root/criimage")

    assert ended.returncode == 0, ended.stdout[-4000:]
    assert re.search(rf"^{_REGISTRY}/pause +3\.9 ", ended.stdout, re.MULTILINE), ended.stdout[-3000:]
    left = [path for path in machine.root.rglob("*criimage*") if "root/criimage" not in str(path)]
    assert {str(path.relative_to(machine.root)) for path in left} == {"etc/criimage", "var/log/criimage.log"}
    assert [path.name for path in (machine.root / "etc/criimage").iterdir()] == ["config.toml"]
    assert list((machine.root / "var/lib/containers/storage").glob("*-images/images.json"))


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
