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

_ACTS = "open|openat|mkdir|mkdirat|rename|write|sync|fsync|link|symlink|stat|lstat|unlink|unlinkat|truncate|expected at"
# Go's errors of files: what was tried, one path or two, the system's words. What is between has a bound.
_OF_A_FILE = rf"\b(?:{_ACTS}) [^:]{{0,1000}}/[^:]{{1,1000}}: "
_SITUATIONS: tuple[tuple[re.Pattern[str], type[errors.CriimageError], str], ...] = tuple(
    (re.compile(words, re.IGNORECASE), kind, text)
    for words, kind, text in (
        (r"no space left on device|disk quota exceeded", errors.StorageFull, "no space left on device"),
        (
            rf"{_OF_A_FILE}read-only file system",
            errors.OperationFailed,
            "{whose} cannot be written: Read-only file system",
        ),
        (rf"{_OF_A_FILE}input/output error", errors.OperationFailed, "{whose} cannot be used: Input/output error"),
        (rf"{_OF_A_FILE}permission denied", errors.OperationFailed, "{whose} cannot be written: Permission denied"),
        (
            rf"{_OF_A_FILE}(?:no such file or directory|not a directory|invalid cross-device link|blob not found)",
            errors.OperationFailed,
            "{whose} lacks a folder or file of its own",
        ),
    )
)
# What is wrong there is wrong in the image.
_UNPACKING = re.compile(r"applylayer|applydiff|mount callback|processing tar file", re.IGNORECASE)
_NOT_FOUND = 2


def disk_failure(said: str, whose: str) -> errors.CriimageError | None:
    """Return the error for what a store says of its disk, without a name; None if it speaks of something else.

    Args:
        said: its words, masked already.
        whose: `the engine's store`, for the text.
    """
    words = keep_ends(said)
    unpacking = _UNPACKING.search(words) is not None
    for pattern, kind, text in _SITUATIONS[: _NOT_FOUND if unpacking else None]:
        if pattern.search(words):
            _log.warning("a store cannot be used", said=words)
            return kind(text.format(whose=whose))
    return None
