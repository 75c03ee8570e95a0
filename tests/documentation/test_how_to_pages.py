"""Claims: what the how-to pages tell to type beside a server works as it stands, against registries with real HTTPS."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

import pytest

from criimage.testing.certificates import Certificates
from criimage.testing.oci import image, noise_layer
from criimage.testing.scripted_acts import Auth, Hang, Stage
from criimage.testing.scripted_registry import scripted_registry
from documentation.pages import blocks, page
from documentation.typed_blocks import blocks_for, watched
from parts.clients import crictl, grpcurl
from parts.containerd import containerd
from parts.forwarder import forwarder
from parts.missing import need
from parts.own_etc import typed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from criimage.testing.scripted_registry import ScriptedRegistry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

_PASSWORD = "s3cret"  # noqa: S105 - of the test's own registry
# Of this run alone: others may be at the same pages.
_ADDRESS = f"127.84.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"

_SYSTEMCTL = """#!/bin/sh
# Stands in for systemd: a service of its own, which the tests of the units start for real.
socket=/run/criimage/criimage.sock
case "$*" in
"restart criimage")
    if test -e /run/pid; then kill "$(cat /run/pid)"; fi
    while test -e $socket || test -e $socket.lock; do sleep 0.05; done
    mkdir -p /run/criimage
    criimage serve >>/run/log 2>&1 &
    echo $! >/run/pid
    # The socket's file is there a moment before somebody listens.
    until criimage version >/dev/null 2>&1; do sleep 0.05; done ;;
"reload criimage")
    kill -HUP "$(cat /run/pid)"
    until grep -q "settings reloaded" /run/log; do sleep 0.05; done ;;
*) exit 1 ;;
esac
"""

_PREPARE = """
mkdir bin
cat >bin/systemctl <<'END'
{systemctl}END
chmod 755 bin/systemctl
export PATH=$PWD/bin:$PATH
echo '127.0.0.1 localhost
{address} {host}' >/etc/hosts
printf %s\\\\n {password} >password.txt
cp {ca} ca.crt || true
rm -rf /etc/criimage
mkdir -p /etc/containers/registries.conf.d
echo '{{"default": [{{"type": "insecureAcceptAnything"}}]}}' >/etc/containers/policy.json
{trusted}
systemctl restart criimage
"""
_KNOWN = "mkdir -p /etc/containers/certs.d/{host}; cp ca.crt /etc/containers/certs.d/{host}/"


@contextlib.contextmanager
def reached(folder: Path, host: str, auth: Auth) -> Iterator[tuple[ScriptedRegistry, Path]]:
    """A registry at that name, and its authority's certificate."""
    need("openssl")
    certificates = Certificates.make(folder, host)
    with contextlib.ExitStack() as stack:
        made = scripted_registry(auth=auth, accounts={"demo": _PASSWORD}, certificates=certificates)
        hub = stack.enter_context(made)
        stack.enter_context(forwarder(_ADDRESS, 443, int(hub.address.rpartition(":")[2])))
        yield hub, certificates.ca_folder / "ca.crt"


def shown(folder: Path, host: str, authority: Path, *commands: str, trusted: bool = True, alone: bool = False) -> str:
    """Types these commands beside a server that runs, and returns what was shown."""
    known = _KNOWN.format(host=host) if trusted else ""
    prepared = _PREPARE.format(
        systemctl=_SYSTEMCTL, address=_ADDRESS, host=host, password=_PASSWORD, ca=authority, trusted=known
    )
    (folder / "machine").mkdir()
    ended = typed(folder / "machine", "\n".join((prepared, *commands)), alone=alone)
    assert ended.returncode == 0, ended.stdout[-6000:]
    return ended.stdout


def test_private_registries(tmp_path: Path) -> None:
    """A pull with a password, one with the machine's, and one that needs the authority's certificate first."""
    host = "registry.example.com"
    by_hand, of_the_machine, certificate = blocks_for("test_private_registries", "docs/guide/private-registries")
    with reached(tmp_path, host, Auth.BASIC) as (hub, authority):
        made = image(noise_layer(10_000))
        hub.put(made, "team/app", "1")
        # In the order of the page but for the last block, without which nothing of this registry is believed.
        refused = f"! criimage pull {host}/team/app:1 2>refused; grep x509 refused"
        nobody = f"! criimage pull {host}/team/app:1 2>nobody; grep unauthorized nobody"
        only_trust = certificate.rpartition("criimage pull")[0]
        commands = (refused, only_trust, nobody, by_hand, of_the_machine, certificate)
        seen = shown(tmp_path, host, authority, *commands, trusted=False)
    assert "Login Succeeded" in seen
    assert seen.count(f"\n{made.id.removeprefix('sha256:')}\n") == 3
    assert f" {_PASSWORD}" not in seen.partition("systemctl restart criimage\n")[2]


def test_mirrors(tmp_path: Path) -> None:
    """The mirror answers for a registry that cannot be reached, and for one that is blocked."""
    host = "mirror.example.com"
    first, only = blocks_for("test_mirrors", "docs/guide/mirrors")
    with reached(tmp_path, host, Auth.NONE) as (hub, authority):
        made = image(noise_layer(10_000))
        hub.put(made, "docker/library/busybox", "1.36")
        seen = shown(tmp_path, host, authority, first, only, "criimage images")
        asked = [request.repository for request in hub.asked(Stage.MANIFEST)]
    assert len(asked) >= 2
    assert set(asked) == {"docker/library/busybox"}
    assert seen.count(f"\n{made.id.removeprefix('sha256:')}\n") == 2
    assert "docker.io/library/busybox" in seen.rpartition("criimage images")[2]


def test_limits(tmp_path: Path) -> None:
    """The limits are in force without a restart: the log has the keys."""
    (commands,) = blocks_for("test_limits", "docs/guide/limits")
    seen = shown(tmp_path, "registry.example.com", tmp_path, commands, "cat /run/log", trusted=False)
    assert "'pulls.max_parallel'" in seen
    assert "needs_restart=[]" in seen


def test_pinning(tmp_path: Path) -> None:
    """With the page's own list, which a reload puts in force, the column says yes and said nothing before."""
    host = "registry.k8s.io"
    (setting,), (commands,) = blocks(page("guide/pinning"), "toml"), blocks_for("test_pinning", "docs/guide/pinning")
    with reached(tmp_path, host, Auth.NONE) as (hub, authority):
        hub.put(image(noise_layer(10_000)), "pause", "3.9")
        seen = shown(
            tmp_path,
            host,
            authority,
            f"criimage pull {host}/pause:3.9",
            "criimage images",
            f"mkdir -p /etc/criimage\ncat >/etc/criimage/config.toml <<'END'\n{setting}END",
            commands,
        )
    before, after = (
        [line for line in part.splitlines() if "/pause " in line] for part in seen.split("reload criimage")
    )
    assert [line.split()[-1] == "yes" for line in (before[-1], after[-1])] == [False, True]


def test_a_look_at_a_server(tmp_path: Path) -> None:
    """With crictl as its page tells, and with what the pages on trouble and on moving have one look at."""
    client = crictl()
    looks = [
        *blocks_for("test_a_look_at_a_server", "docs/guide/crictl"),
        *blocks_for("test_a_look_at_a_server", "docs/guide/troubleshooting"),
        *blocks_for("test_a_look_at_a_server", "docs/guide/moving"),
    ]
    # Another socket of the same store, as CRI-O's is.
    other = "mkdir -p /run/crio; ln -s /run/criimage/criimage.sock /run/crio/crio.sock"
    commands = (f"export PATH={client.parent}:$PATH", other, *looks)
    seen = shown(tmp_path, "registry.example.com", tmp_path, *commands, trusted=False)
    assert "RuntimeName:  criimage" in seen
    assert '"type": "RuntimeReady"' in seen
    assert "No pulls are running." in seen
    assert seen.count("ok: containers-storage can work here") == 2


# The numbers of the page: the seventh pull that this server makes, and its third removal.
_SEVEN_PULLS = """
for number in 1 2 3 4; do criimage pull {host}/team/app:1; done
criimage pull {host}/team/other:1
criimage pull {host}/team/third:1
criimage pull {host}/shop/db:2.7 2>ended & pulling=$!
until criimage pulls | grep '^7 .*downloading'; do kill -0 $pulling; sleep 0.1; done
"""
_ENDED = """
! wait $pulling
cat ended
"""
_THREE_REMOVALS = """
criimage rmi {host}/team/app:1
criimage rmi {host}/team/other:1
lock=$(echo /var/lib/containers/storage/*-images/images.lock)
mkfifo held let-go
python -c 'import fcntl, sys
with open(sys.argv[1], "r+") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    open("held", "w").close()
    open("let-go").close()' "$lock" & holding=$!
: <held
criimage rmi {host}/team/third:1 2>kept & removing=$!
until criimage removals | grep '^3 .*lock'; do kill -0 $removing; sleep 0.1; done
"""
_KEPT = """
! wait $removing
cat kept
: >let-go
wait $holding
criimage images
"""


def test_pulls_and_removals(tmp_path: Path) -> None:
    """A pull that hangs is seen and ended, and so is a removal that another tool's lock keeps waiting."""
    host = "registry.example.com"
    watch, end, removals = blocks_for("test_pulls_and_removals", "docs/guide/pulls")
    with reached(tmp_path, host, Auth.NONE) as (hub, authority):
        for number, repository in enumerate(("team/app", "team/other", "team/third")):
            hub.put(image(noise_layer(10_000 + number)), repository, "1")
        hub.put(image(noise_layer(1_000_000)), "shop/db", "2.7")
        hub.script(Stage.LAYER, Hang(after=1000), repository="shop/db")
        seen = shown(
            tmp_path,
            host,
            authority,
            _SEVEN_PULLS.format(host=host),
            watched(watch, "criimage pulls --watch", "shop/db"),
            end,
            _ENDED,
            _THREE_REMOVALS.format(host=host),
            removals,
            _KEPT,
        )
    _, after = seen.split("+ cat ended\n")
    ended, after = after.split("+ criimage rmi", 1)
    assert "cancelled by the operator" in ended, ended
    _, after = after.split("+ cat kept\n")
    assert "the image is still there" in after.splitlines()[0]
    assert f"{host}/team/third" in after


def test_metrics_and_health(tmp_path: Path) -> None:
    """With the page's own settings the metrics are there, and health is asked for with either client."""
    settings, _ = blocks(page("guide/metrics-and-logs"), "toml")
    figures, health = blocks_for("test_metrics_and_health", "docs/guide/metrics-and-logs")
    need("curl")
    seen = shown(
        tmp_path,
        "registry.example.com",
        tmp_path,
        f"export PATH={crictl().parent}:{grpcurl().parent}:$PATH",
        f"mkdir -p /etc/criimage\ncat >/etc/criimage/config.toml <<'END'\n{settings}END",
        "systemctl restart criimage",
        figures,
        health,
        trusted=False,
        # The page's port is one that another run may have.
        alone=True,
    )
    assert re.search(r"^criimage_problems\{.*\} 0\.0$", seen, re.MULTILINE)
    assert '"status": "SERVING"' in seen
    assert '"type": "RuntimeReady"' in seen


def test_what_is_missing_is_told_as_the_page_has_it(tmp_path: Path) -> None:
    """On a machine without skopeo the command says what the page shows, line by line, and fails."""
    (told,) = blocks_for("test_what_is_missing_is_told_as_the_page_has_it", "docs/tutorials/first-steps")
    first, *lines = told.splitlines()
    command = first.removeprefix("$ ")
    hidden = 'mount --bind /dev/null "$(command -v skopeo)"'
    (tmp_path / "machine").mkdir()
    ended = typed(tmp_path / "machine", f"rm -rf /etc/criimage\n{hidden}\n! {command}")
    assert ended.returncode == 0, ended.stdout
    assert "\n".join(lines) in ended.stdout


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_runtime_is_judged(tmp_path: Path) -> None:
    """The command of the page finds nothing in containerd but the known differences, and writes its report."""
    (command,) = blocks_for("test_a_runtime_is_judged", "docs/conformance")
    with containerd() as runtime:
        beside = f"mkdir -p /run/containerd\nln -s {runtime.socket} /run/containerd/containerd.sock"
        (tmp_path / "machine").mkdir()
        ended = typed(tmp_path / "machine", f"{beside}\n{command}\ngrep -c '<html' report.html", timeout=800)
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert re.search(r"^\d+ passed, 0 failed, \d+ known, \d+ not applicable$", ended.stdout, re.MULTILINE)
