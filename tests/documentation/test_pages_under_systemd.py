"""Claims: what the pages on units and on one socket tell to type works as it stands where systemd is process 1.

It boots in namespaces on top of this machine's root, with criimage as it is here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from documentation.pages import PROJECT, blocks, page
from documentation.typed_blocks import blocks_for
from documentation.unit_pages import typed_units
from parts.booted import kubelet_unit, run_booted
from parts.clients import crictl
from parts.containerd import containerd
from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

_HERE = """
mkdir -p /usr/local/bin
rm -rf /opt/criimage /usr/local/bin/criimage
ln -s {environment} /opt/criimage
ln -s /opt/criimage/bin/criimage /usr/local/bin/criimage
mkdir -p /etc/containers
echo '{{"default": [{{"type": "insecureAcceptAnything"}}]}}' >/etc/containers/policy.json
"""

# In the place of a kubelet, which ends too if the endpoint that it was told does not answer.
_KUBELET = kubelet_unit(
    """/bin/sh -c 'sed -n "s/^containerRuntimeEndpoint: //p" /var/lib/kubelet/config.yaml >>/probe/kubelet'""",
    """/bin/sh -c 'exec criimage version --endpoint "$(tail -n 1 /probe/kubelet)"'""",
)

_BEHIND = """
mkdir -p /run/containerd /etc/criimage/conf.d /var/lib/kubelet
ln -s {socket} /run/containerd/containerd.sock
echo 'containerRuntimeEndpoint: unix:///run/containerd/containerd.sock' >/var/lib/kubelet/config.yaml
cat >/etc/criimage/config.toml <<'END'
{settings}END
cat >/etc/crictl.yaml <<'END'
{client}END
criimage install
systemctl daemon-reload
systemctl enable --now criimage
systemctl start kubelet
"""


def _typed(folder: Path, *lines: str, shared: Sequence[Path] = ()) -> str:
    environment = {
        "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{crictl().parent}",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
    }
    files = folder / "files"
    files.mkdir()
    (files / "kubelet.service").write_text(_KUBELET)
    script = "\n".join((_HERE.format(environment=sys.prefix), *lines))
    everything = (PROJECT, Path(sys.prefix), *shared)
    code, shown = run_booted(files, script, environment=environment, shared=everything, timeout=240)
    assert code == 0, shown[-6000:]
    return shown


def test_a_unit_from_its_installation_to_its_end(tmp_path: Path) -> None:
    """Installed, started, watched, changed by drop-ins, given systemd's socket, and uninstalled: nothing is left."""
    need("skopeo")
    look, start = blocks_for("test_a_unit_from_its_installation_to_its_end", "docs/guide/install")
    units = blocks_for("test_a_unit_from_its_installation_to_its_end", "docs/guide/systemd")
    (end,) = blocks_for("test_a_unit_from_its_installation_to_its_end", "docs/guide/uninstall")

    left = "find /etc /usr/local /opt -name '*criimage*' -printf 'left %p\\n'"
    shown = _typed(tmp_path, look, start, *typed_units(units), end, left)

    assert "written    /etc/systemd/system/criimage.service  (dry run)" in shown
    assert re.findall("^left (.*)", shown, re.MULTILINE) == []


def test_in_front_of_a_runtime(tmp_path: Path) -> None:
    """The runtime is told as the page has it, crictl sees it through the socket, and a kubelet goes there and back."""
    settings, _ = blocks(page("guide/one-socket"), "toml")
    client = next(text for text in blocks(page("guide/one-socket"), "yaml") if "crictl.yaml" in text)
    (told,) = blocks_for("test_in_front_of_a_runtime", "docs/guide/kubelet")
    looks, there, order, back = blocks_for("test_in_front_of_a_runtime", "docs/guide/one-socket")
    with containerd(sandbox_image="registry.k8s.io/pause:3.6") as runtime:
        shown = _typed(
            tmp_path,
            _BEHIND.format(socket=runtime.socket, settings=settings, client=client),
            told.splitlines()[0].removeprefix("$ "),
            looks,
            order,
            there,
            "systemctl show -P After criimage | tr ' ' '\\n' | grep -x containerd.service",
            back,
            "! systemctl is-active criimage",
            shared=(runtime.folder,),
        )
    kubelet = (tmp_path / "files" / "kubelet").read_text().split()

    _, *lines = told.splitlines()
    assert _without_versions("\n".join(lines)) in _without_versions(shown)
    assert "RuntimeName:  containerd" in shown
    ours, theirs = "unix:///run/criimage/criimage.sock", "unix:///run/containerd/containerd.sock"
    assert kubelet == [theirs, ours, theirs]


def _without_versions(text: str) -> str:
    return re.sub(r"containerd \d+\.\d+\.\d+\S*", "containerd VERSION", text)
