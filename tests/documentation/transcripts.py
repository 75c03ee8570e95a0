"""What was typed and shown, kept where `TRANSCRIPTS` names a folder: a file for each test, for the page on long runs.

What apt, dpkg and pip tell of their own work is left out: it is of their mirrors, and says nothing of criimage.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["keep", "without_installers"]

_INSTALLERS = re.compile(
    r"(\S+:\d+ https?://|Get:|Hit:|Ign:|Fetched |Reading |Building dependency|Selecting previously|Preparing to unpack"
    r"|Unpacking |Setting up |Processing |\(Reading|Need to get|After this|debconf:|update-alternatives:|dpkg-"
    r"|Extracting templates|Adding (new|user|group|system)|Not creating home|Updating certificates|\d+ added"
    r"|Running hooks|done\.$|\d+ upgraded|Looking in|Collecting|\s*Downloading|\s*Using cached|Requirement already"
    r"|\s*Preparing metadata|\s*(Installing|Getting) |invoke-rc\.d|Running in chroot|WARNING: Running pip|\s*━"
    r"|E: Can not write log|locale:|perl: warning)"
)
_LISTS = re.compile(r"(The following|Suggested|Recommended|Use 'apt)")


def keep(test: str, shown: str) -> None:
    """Append to the test's file what was shown, if such files are wanted."""
    folder = os.environ.get("TRANSCRIPTS")
    if folder:
        with (Path(folder) / f"{test}.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in without_installers(shown.splitlines()))


def without_installers(lines: Iterable[str]) -> Iterator[str]:
    """Yield what is not an installer's talk; of a bar that was drawn over and over, its last state."""
    in_list = False
    for line in lines:
        text = line.rsplit("\r", 1)[-1].rstrip()
        in_list = bool(_LISTS.match(text)) or (in_list and text.startswith("  "))
        if not in_list and not _INSTALLERS.match(text):
            yield text
