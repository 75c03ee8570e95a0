"""The table of running pulls."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from criimage.cli.progress import pulls_table
from criimage.cri.criimage.v1 import Pull, PullPhase, PullWaiter


@pytest.mark.parametrize("width", [80, 120, 240])
def test_the_image_can_be_read_on_every_terminal(width: int) -> None:
    """However narrow the table, the column that says which image it is keeps its share; no text is cut off."""
    pull = Pull(
        id="12",
        reference="registry.example.com/team/application:v1.2.3",
        phase=PullPhase(PullPhase.DOWNLOADING),
        bytes_done=10**7,
        bytes_total=10**8,
        bytes_per_second=10**6,
        started=time.time_ns(),
    )
    shown = io.StringIO()

    Console(file=shown, width=width).print(pulls_table([pull]))

    lines = shown.getvalue().splitlines()
    start, end = lines[0].index("IMAGE"), lines[0].index("PHASE")
    assert "".join(line[start:end].strip() for line in lines[1:]) == pull.reference
    assert "…" not in shown.getvalue()
    assert "downloading" in lines[1]


def test_names_are_shown_as_they_are() -> None:
    """Brackets in a registry's or a pod's name are no instructions to whoever draws the table."""
    waiters = [PullWaiter(pod="[/bold]/web")]
    pull = Pull(id="1", reference="[fe80::1]:5000/app:1", phase=PullPhase(PullPhase.QUEUED), waiters=waiters)
    shown = io.StringIO()

    Console(file=shown, width=200).print(pulls_table([pull]))

    row = shown.getvalue().splitlines()[1].split()
    assert (row[1], row[-1]) == ("[fe80::1]:5000/app:1", "[/bold]/web")
