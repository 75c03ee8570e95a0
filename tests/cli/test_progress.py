"""The table of running pulls."""

from __future__ import annotations

import io

from rich.console import Console

from criimage.cli.progress import pulls_table
from criimage.cri.criimage.v1 import Pull, PullPhase, PullWaiter


def test_names_are_shown_as_they_are() -> None:
    """Brackets in a registry's or a pod's name are no instructions to whoever draws the table."""
    waiters = [PullWaiter(pod="[/bold]/web")]
    pull = Pull(id="1", reference="[fe80::1]:5000/app:1", phase=PullPhase(PullPhase.QUEUED), waiters=waiters)
    shown = io.StringIO()

    Console(file=shown, width=200).print(pulls_table([pull]))

    row = shown.getvalue().splitlines()[1].split()
    assert (row[1], row[-1]) == ("[fe80::1]:5000/app:1", "[/bold]/web")
