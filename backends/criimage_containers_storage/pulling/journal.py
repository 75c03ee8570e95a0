"""What each pull is about to write into the store, written down there before it begins.

Every copy has a folder below `<root>/criimage` as long as what it left is not settled. In it are the store's own lists
of layers and images as they were before (hard links: the tools replace these files, so the old ones stay as they are),
and skopeo's lines, which name every layer before it is in the store and the image before it is committed. So it is
known even if everything was killed in the middle (cri-o T14) which layers and records were there already: those are
never ours. The journal lies in the store, so each store has its own, whatever `tmp_dir` is.

The folder of a server is locked as long as the server lives; the next one takes over what a dead one has left.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from criimage.files import UnreadableFile, entries_of, is_there
from criimage.foreign_json import parse
from criimage_containers_storage.pulling.work_folder import lock_folder
from criimage_containers_storage.store.records import read_raw

if TYPE_CHECKING:
    from pathlib import Path

    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Entry", "Journal"]

_log = structlog.get_logger(__name__)

_BLOB = re.compile(r"^Copying blob (sha256:[0-9a-f]{64})", re.MULTILINE)
_CONFIG = re.compile(r"^Copying config (?:sha256:)?([0-9a-f]{64})", re.MULTILINE)
_COMMITS = "Writing manifest to image destination"
_PREFIX = "server-"
_LIMIT = 1000


@dataclass(slots=True)
class Entry:
    """One copy into the store. Every method blocks.

    Attributes:
        folder: holds what is known of it.
        work: where it keeps its downloads.
        ended: when it came to nothing, in seconds since 1970; None while it runs.
        tries: how often what it left could not be given back.
        made: images that were made only to be deleted with the layers they hold.
        process: of the copy that runs; 0 in another server's.
    """

    folder: Path
    work: str
    ended: float | None = None
    tries: int = 0
    made: list[str] = field(default_factory=list)
    process: int = 0

    @property
    def lines(self) -> Path:
        """The file for what skopeo says; it is there from the beginning."""
        return self.folder / "copied"

    def blobs(self) -> set[str]:
        """Return the digests of the compressed layers that it has touched."""
        return set(_BLOB.findall(self._said()))

    def image(self) -> str:
        """Return the ID of the image that it commits, or empty as long as skopeo has not told."""
        found = _CONFIG.findall(self._said())
        return found[-1] if found else ""

    def commits(self) -> bool:
        """Tell whether the image's record is being written, or has been."""
        return _COMMITS in self._said()

    def before(self, kind: str) -> set[str] | None:
        """Return the IDs of the `layers` or `images` that were there before it; None if that is not known.

        Raises:
            UnreadableFile: it cannot be told now: nothing is anybody's then.
        """
        found: set[str] = set()
        for number in itertools.count():
            kept, nothing = _kept(self.folder, kind, number)
            if not is_there(kept):
                if is_there(nothing):
                    continue
                return found if number else None
            try:
                found.update(str(record.get("id")) for record in read_raw(kept, whole=True))
            except (OSError, ValueError):
                return None
        raise AssertionError

    def write(self) -> None:
        """Write down what has changed.

        Raises:
            OSError: no space.
        """
        document = {"work": self.work, "ended": self.ended, "tries": self.tries, "made": self.made}
        fresh = self.folder / "entry.new"
        fresh.write_text(json.dumps(document))
        fresh.replace(self.folder / "entry.json")

    def forget(self) -> None:
        """Remove it; nothing of it is left to be done."""
        # First what makes it an entry: half of one would not know what was there before.
        with contextlib.suppress(OSError):
            (self.folder / "entry.json").unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _said(self) -> str:
        try:
            return self.lines.read_text("ascii", "replace")
        except OSError:
            return ""


class Journal:
    """All copies of one server into one store. May be used by threads.

    Args:
        layout: the store. Nothing is made in it before the first copy begins.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._top = layout.root / "criimage"
        self._folder = self._top / f"{_PREFIX}{uuid.uuid4().hex}"
        self._lock: int | None = None
        # Pulls begin in threads, many at once where a node starts.
        self._opening = threading.Lock()
        self._entries: dict[Path, Entry] = {}

    def begin(self, work: Path) -> Entry:
        """Write down that a copy begins, and what is there before it.

        Args:
            work: of the copy.

        Raises:
            OSError: the store cannot be written.
        """
        self._open()
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir(0o700)
        try:
            for kind in ("images", "layers"):
                for number, root in enumerate(self._layout.writable_roots):
                    source = root / f"{self._layout.driver}-{kind}" / f"{kind}.json"
                    _keep(source, *_kept(folder, kind, number))
            entry = Entry(folder, str(work))
            entry.lines.touch()
            entry.write()
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._entries[folder] = entry
        return entry

    def end(self, entry: Entry, *, at_once: bool = False) -> None:
        """Write down that a copy came to nothing; `at_once`: long ago, so that its layers are due."""
        entry.ended = 0.0 if at_once else time.time()
        # On a full disk it is known in memory still, and the next server takes it for one that was cut short.
        with contextlib.suppress(OSError):
            entry.write()

    def forget(self, entry: Entry) -> None:
        """Remove an entry."""
        self._entries.pop(entry.folder, None)
        entry.forget()

    def ended(self) -> list[Entry]:
        """Return the entries of copies that came to nothing, the oldest first; more than a thousand are not kept."""
        found = sorted(
            (entry for entry in list(self._entries.values()) if entry.ended is not None), key=lambda one: one.ended or 0
        )
        for entry in found[:-_LIMIT]:
            _log.warning("too many failed pulls have left layers; those of the oldest are not given back")
            self.forget(entry)
        return found[-_LIMIT:]

    def running_blobs(self) -> set[str]:
        """Return the layers that running copies have touched and may count on."""
        running = [entry for entry in list(self._entries.values()) if entry.ended is None]
        return set().union(*(entry.blobs() for entry in running))

    def take_over(self) -> list[Entry]:
        """Take over what dead servers have left, and return it: each of these copies was cut short or failed.

        What cannot be looked at is told in the log and stays.
        """
        found: list[Entry] = []
        try:
            folders = entries_of(self._top, _PREFIX)
        except UnreadableFile as error:
            _cannot_be_looked_at(error)
            return found
        for folder in folders:
            if folder == self._folder or (lock := lock_folder(folder)) is None:
                continue
            try:
                for one in entries_of(folder):
                    entry = _read(one)
                    if entry is None:
                        shutil.rmtree(one, ignore_errors=True)
                        continue
                    self._open()
                    entry.folder = one.rename(self._folder / one.name)
                    self._entries[entry.folder] = entry
                    found.append(entry)
                with contextlib.suppress(OSError):
                    folder.rmdir()
            except (UnreadableFile, OSError) as error:
                _cannot_be_looked_at(error)
            finally:
                os.close(lock)
        return found

    def close(self) -> None:
        """Leave what is not settled to the next server."""
        if self._lock is not None:
            for folder in (self._folder, self._top):
                with contextlib.suppress(OSError):
                    folder.rmdir()  # unless something is left in it
            os.close(self._lock)
            self._lock = None

    def _open(self) -> None:
        with self._opening:
            try:
                self._folder.mkdir(0o700, parents=True)
            except FileExistsError:
                if self._lock is not None:
                    return
            if self._lock is not None:
                os.close(self._lock)
            self._lock = lock_folder(self._folder)


def _cannot_be_looked_at(error: Exception) -> None:
    _log.warning("what an earlier server left cannot be looked at", error=str(error))


def _kept(folder: Path, kind: str, number: int) -> tuple[Path, Path]:
    """Return where a root's list is kept, and what says that there was none; the first root is number 0."""
    name = f"{kind}-{number}" if number else kind
    return folder / f"{name}.json", folder / f"no-{name}"


def _keep(source: Path, kept: Path, nothing: Path) -> None:
    try:
        os.link(source, kept)
    except FileNotFoundError:
        nothing.touch()
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, kept)


def _read(folder: Path) -> Entry | None:
    try:
        document: Any = parse((folder / "entry.json").read_bytes())
        work, ended, tries, made = (document[key] for key in ("work", "ended", "tries", "made"))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    right = isinstance(work, str) and isinstance(tries, int) and isinstance(made, list)
    if not right or not all(isinstance(one, str) for one in made):
        return None
    return Entry(folder, work, float(ended) if isinstance(ended, int | float) else None, tries, made)
