"""What a disk does to somebody else's store, told without that store's folders and without its tools' words.

A store's own messages name its folders and temporary files, which tell a client nothing and are others each time. The
same failure gets the same text here, whoever keeps the store; what was said goes to the log.
"""

from __future__ import annotations

import re

import structlog

from criimage import errors
from criimage.foreign_text import keep_ends

__all__ = ["disk_failure"]

_log = structlog.get_logger(__name__)

_ACT = re.compile(
    r"\b(?:open|openat|mkdir|mkdirat|rename|write|f?sync|(?:sym)?link|l?stat|unlink|unlinkat|truncate|expected at) ",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
# What the system says of a file, behind what was tried and the path.
_OF_A_FILE = tuple(
    (re.compile(f": (?:{words})", re.IGNORECASE), text)
    for words, text in (
        (r"read-only file system", "{whose} cannot be written: Read-only file system"),
        (r"input/output error", "{whose} cannot be used: Input/output error"),
        (r"permission denied", "{whose} cannot be written: Permission denied"),
        (
            r"no such file or directory|not a directory|invalid cross-device link|blob not found",
            "{whose} lacks a folder or file of its own",
        ),
    )
)
# What is wrong there is wrong in the image.
_UNPACKING = re.compile(r"applylayer|applydiff|mount callback|processing tar file", re.IGNORECASE)


def disk_failure(said: str, whose: str) -> errors.CriimageError | None:
    """Return the error for what a store says of its disk, without a name; None if it speaks of something else.

    Args:
        said: its words, masked already.
        whose: `the engine's store`, for the text.
    """
    words = keep_ends(said)
    found: errors.CriimageError | None = None
    if _FULL.search(words):
        found = errors.StorageFull("no space left on device")
    else:
        # An image that does not unpack may say the same of files of its own; a read-only disk it does not make up.
        known = _OF_A_FILE[: 1 if _UNPACKING.search(words) else None]
        text = next((text for said_of_it, text in known if _is_said_of_a_file(words, said_of_it)), "")
        if text:
            found = errors.OperationFailed(text.format(whose=whose))
    if found is not None:
        _log.warning("a store cannot be used", said=words)
    return found


def _is_said_of_a_file(words: str, said: re.Pattern[str]) -> bool:
    """Tell whether Go's error of a file stands there: what was tried, a path or two, and what the system says of it.

    Each part between two colons is looked at once, so that no text costs more than its length.
    """
    for found in said.finditer(words):
        part = words[words.rfind(":", 0, found.start()) + 1 : found.start()]
        act = _ACT.search(part)
        if act is not None and "/" in part[act.end() : -1]:
            return True
    return False
