"""Auth files that a credential provider puts down for one pull of one namespace (cri-o A11).

As CRI-O 1.34 and its provider: `NAMESPACE-<sha256 of the repository>.json`, moved to `in-use/` by whoever takes it, so
that only one pull has it, read, and deleted. What a killed server has left in `in-use/` is deleted by the next pull.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.errors import PullError
from criimage.files import UnreadableFile, files_in, read
from criimage.foreign_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.reference import Reference

__all__ = ["sweep", "take"]

_IN_USE = "in-use"
# CRI-O's own names end differently: whose they are, it knows.
_OURS = ".criimage"


def take(place: str, namespace: str, reference: Reference) -> bytes | None:
    """Return the auth file for this one pull, and delete it; None if there is none. Blocks.

    Args:
        place: the folder of these files, or empty.
        namespace: of the pod, or empty; one that may be a part of a file's name.
        reference: the image.

    Raises:
        PullError: it is not valid; it is deleted all the same.
        OSError: it cannot be moved.
    """
    if not (namespace and place):
        return None
    folder = Path(place)
    sweep(folder)
    name = f"{namespace}-{hashlib.sha256(reference.repository.encode()).hexdigest()}"
    try:
        content = _moved_and_read(folder / f"{name}.json", folder / _IN_USE / f"{name}-{uuid.uuid4()}{_OURS}")
        if content is not None:
            parse_object(content)
    except (ValueError, UnreadableFile):
        # Raised outside: nothing of what it holds may be a cause in a log.
        content = b""
    if content == b"":
        raise PullError(f"the auth file of namespace {namespace} is not valid: {reference}")
    return content


def sweep(folder: Path) -> None:
    """Delete what servers that are gone have left in use. Blocks."""
    try:
        found = files_in(folder / _IN_USE, _OURS)
    except UnreadableFile:
        return
    for file in found:
        with contextlib.suppress(OSError), _locked(file):
            file.unlink()


def _moved_and_read(source: Path, claimed: Path) -> bytes | None:
    try:
        # Locked before it is in use: whoever sweeps must see that its owner lives.
        with _locked(source):
            claimed.parent.mkdir(0o700, exist_ok=True)
            source.rename(claimed)
            try:
                return read(claimed)
            finally:
                claimed.unlink()
    except (FileNotFoundError, BlockingIOError):
        # It is not there, or another pull has just taken it.
        return None


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
