"""Claims: the units do under a real systemd what the page says, which boots in namespaces on top of this root.

Everything it writes goes to a folder in memory on top of that root. Only what the probe asks for is started.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from documentation.pages import PROJECT
from parts.booted import kubelet_unit, run_booted
from parts.missing import need

CRIIMAGE = Path(sys.executable).with_name("criimage")

_BEFORE = """
mkdir -p /etc/criimage
echo 'backend = "memory"' >/etc/criimage/config.toml
{command} install >/probe/installed
systemctl enable criimage.service criimage.socket 2>/probe/enabled
"""

_KUBELET = kubelet_unit("/bin/sh -c 'systemctl is-active criimage.service >/probe/seen-by-kubelet'")

_SCRIPT = """
set +e
set -- {command}
cd /probe
systemctl start kubelet.service
"$1" version >with-socket 2>&1
stat -c '%a %U %G' /run/criimage/criimage.sock >mode
systemctl reload criimage.service
# With Type=notify and a command that sends a signal, systemd does not wait for what comes of it.
until systemctl show -P StatusText criimage.service | tee reloaded | grep -q reloaded; do sleep 0.1; done
systemctl stop criimage.service 2>/dev/null
systemctl is-active criimage.service >stopped
test -S /run/criimage/criimage.sock && echo there >socket-stays
systemctl is-active criimage.socket >>socket-stays
"$1" version >activated 2>&1
systemctl stop criimage.socket criimage.service
systemctl start criimage.service
"$1" version >without-socket 2>&1
systemctl kill --signal=KILL --kill-whom=main criimage.service
while test "$(systemctl show -P NRestarts criimage.service)" = 0; do sleep 0.2; done
systemctl start criimage.service
"$1" version >after-a-kill 2>&1
systemctl stop criimage.service
systemctl show -P Result criimage.service >result
"""


@pytest.mark.engine
@pytest.mark.timeout(180)
def test_the_units_work_under_systemd(tmp_path: Path) -> None:
    """Started before the kubelet and by it, on systemd's socket and on its own, reloaded, killed, and ended well."""
    need("systemd-analyze")
    files = tmp_path / "files"
    files.mkdir()
    (files / "before").write_text(_BEFORE.format(command=CRIIMAGE))
    (files / "kubelet.service").write_text(_KUBELET)
    script = _SCRIPT.format(command=CRIIMAGE)

    _, shown = run_booted(files, script, environment={}, shared=(PROJECT, Path(sys.prefix)), inside="/", timeout=150)

    found = {path.name: path.read_text().strip() for path in files.iterdir()}
    assert "result" in found, shown
    assert "kept       /etc/criimage/config.toml" in found["installed"]
    assert "kubelet.service.wants/criimage.service" in found["enabled"]
    assert found["seen-by-kubelet"] == "active"
    assert found["mode"] == "660 root root"
    assert found["reloaded"] == "settings reloaded"
    assert found["stopped"] == "inactive"
    assert found["socket-stays"].split() == ["there", "active"]
    for name in ("with-socket", "activated", "without-socket", "after-a-kill"):
        assert "criimage" in found[name], (name, found[name])
        assert "Error" not in found[name], (name, found[name])
    assert found["result"] == "success"
