"""Every file of an installation with its content."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import ShellComplete, get_completion_class

from criimage.files import is_there
from criimage.shipping.alerts import rules
from criimage.shipping.dashboard import dashboard
from criimage.shipping.manual import pages
from criimage.shipping.units import (
    KUBELETS,
    TMPFILES,
    kubelets_there,
    service_unit,
    socket_unit,
    unit_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import click

    from criimage.shipping.manual import Table
    from criimage.shipping.places import Places

__all__ = ["SHELLS", "completion_script", "shipped"]

SHELLS = ("bash", "zsh", "fish")


def shipped(
    places: Places, main: click.Group, settings: str, tables: Iterable[Table], before: Sequence[str]
) -> dict[Path, str]:
    """Return the text of each file by its path.

    Args:
        places: where they go.
        main: the command `criimage`.
        settings: text of a settings file that sets nothing.
        tables: of the settings, for the manual.
        before: units that are to start after criimage, besides the kubelets that are there.

    Raises:
        ConfigurationError: a unit's name that is none, or it cannot be told which kubelet is there.
    """
    there = kubelets_there(places)
    wanted = [*dict.fromkeys([*map(unit_name, before), *there])]
    found = {
        # A kubelet that comes later is waited for as well: a unit that is not there holds up nothing.
        places.units / "criimage.service": service_unit(_command(), wanted or KUBELETS, wanted),
        places.units / "criimage.socket": socket_unit(),
        places.tmpfiles / "criimage.conf": TMPFILES,
        places.settings: settings,
        places.share / "criimage.rules.yml": rules(),
        places.share / "grafana-dashboard.json": dashboard(),
    }
    found |= {places.completion(shell): completion_script(main, shell) for shell in SHELLS}
    found |= {places.manual(page.section) / page.file_name: page.text() for page in pages(main, tables)}
    return found


def completion_script(main: click.Group, shell: str) -> str:
    """Return the script that completes criimage's commands in a shell of SHELLS."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"no completion for {shell}")
    # Not bash's own way: it runs bash for its version, which need not be on this machine.
    return ShellComplete.source(kind(main, {}, "criimage", "_CRIIMAGE_COMPLETE")) + "\n"


def _command() -> list[str]:
    script = Path(sysconfig.get_path("scripts")) / "criimage"
    return [str(script)] if is_there(script) else [sys.executable, "-m", "criimage"]
