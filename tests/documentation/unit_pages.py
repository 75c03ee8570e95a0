"""How the pages on units and on metrics are typed, on a machine whose process 1 is systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from documentation.pages import blocks, page
from documentation.typed_blocks import watched

if TYPE_CHECKING:
    from collections.abc import Sequence

_AS_BEFORE = """
rm -r /etc/systemd/system/criimage.service.d /etc/systemd/system/criimage.socket.d
systemctl daemon-reload
systemctl stop criimage.service criimage.socket
systemctl start criimage.socket criimage.service
criimage version
"""


def typed_units(units: Sequence[str]) -> list[str]:
    """The blocks of the page on systemd in its order, each with a look at what has come of it.

    Args:
        units: all blocks of commands of `guide/systemd`.
    """
    first, drop_in, activation, place = units
    return [
        watched(first, "journalctl -u criimage -f", " serving "),
        drop_in,
        "systemctl show -P Environment criimage | grep -x HTTPS_PROXY=http://proxy.example.com:3128",
        "criimage version",
        activation,
        "systemctl is-active criimage.socket criimage.service",
        "criimage version",
        place,
        _AS_BEFORE,
    ]


def appended_settings() -> list[str]:
    """Has the settings of the page on metrics in force with the next start."""
    metrics, _ = blocks(page("guide/metrics-and-logs"), "toml")
    return [f"cat >>/etc/criimage/config.toml <<'END'\n{metrics}END"]
