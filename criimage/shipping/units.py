"""The systemd units, ordered for the kubelet that is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.endpoint import DEFAULT_ENDPOINT, socket_path
from criimage.errors import ConfigurationError
from criimage.files import is_there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from criimage.shipping.places import Places

__all__ = ["KUBELETS", "TMPFILES", "kubelets_there", "service_unit", "socket_unit", "unit_name"]

KUBELETS = (
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
    "k0scontroller.service",
    "k0sworker.service",
    "snap.microk8s.daemon-kubelite.service",
)
"""The units that a kubelet runs in (relay-and-cri 1)."""

_UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]{1,200}\.(?:service|target|socket|scope|slice)")
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./ -]+")

TMPFILES = """\
# The folder of criimage's socket, from boot on: a kubelet or a pod may mount it before the service has run.
d /run/criimage 0755 root root -
"""


def kubelets_there(places: Places) -> list[str]:
    """Return the units of KUBELETS that this machine has.

    Raises:
        UnreadableFile: it cannot be told.
    """
    folders = [places.real(Path(folder)) for folder in _UNIT_FOLDERS]
    return [unit for unit in KUBELETS if any(is_there(folder / unit) for folder in folders)]


def unit_name(text: str) -> str:
    """Return the name of a unit as systemd writes it: without an ending it is a service.

    Raises:
        ConfigurationError: it is none.
    """
    name = text if _UNIT.fullmatch(text) else f"{text}.service"
    if not _UNIT.fullmatch(name):
        raise ConfigurationError(f"{text[:200]!r} is no name of a unit")
    return name


def service_unit(command: Sequence[str], before: Sequence[str], there: Sequence[str]) -> str:
    """Return the text of `criimage.service`.

    Args:
        command: that runs criimage, absolute.
        before: units that start after it.
        there: those that are to start it.
    """
    return _SERVICE.format(
        before=" ".join(before),
        command=" ".join(_word(word) for word in command),
        wanted=" ".join(["multi-user.target", *there]),
    )


def socket_unit() -> str:
    """Return the text of `criimage.socket`."""
    return _SOCKET.format(path=socket_path(DEFAULT_ENDPOINT))


def _word(word: str) -> str:
    # Other characters systemd takes in some places and not in others, in its versions' own ways.
    if not _PLAIN.fullmatch(word):
        raise ConfigurationError(f"no unit can start {word!r}: install criimage in a folder with a plain name")
    return f'"{word}"' if " " in word else word


_SERVICE = """\
# Written by `criimage install`. Change it by `systemctl edit criimage`, so that the next version can replace it.
[Unit]
Description=CRI image service
Documentation=man:criimage(8) man:criimage.toml(5)
Before={before}
Wants=network-online.target
After=network-online.target docker.service containerd.service crio.service cri-docker.service

[Service]
Type=notify
ExecStart={command} serve
# By the shell's own kill: the program of that name is in a package that not every machine has.
ExecReload=/bin/sh -c 'kill -HUP ${{MAINPID}}'
Restart=always
RestartSec=2
WatchdogSec=60
KillMode=mixed
TimeoutStopSec=10
OOMScoreAdjust=-999
LimitNOFILE=1048576
TasksMax=infinity
# The folder stays when the service stops: the socket in it may be systemd's.
RuntimeDirectory=criimage
RuntimeDirectoryPreserve=yes
# Nothing here makes a mount namespace: the store's mounts would be out of the runtime's sight.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
ProtectHostname=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_TIME CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_SYS_PACCT
CapabilityBoundingSet=~CAP_SYS_TTY_CONFIG CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_SYSLOG CAP_NET_RAW

[Install]
WantedBy={wanted}
"""

_SOCKET = """\
# Written by `criimage install`. Change it by `systemctl edit criimage.socket`, so that the next version can replace it.
[Unit]
Description=Socket of the CRI image service
Documentation=man:criimage(8)

[Socket]
ListenStream={path}
SocketMode=0660

[Install]
WantedBy=sockets.target
"""
