"""The rule of installing: a file whose content is not as installed is neither overwritten nor deleted.

A record in the prefix's share folder has the digests of what was installed. While files are written it has the digests
of before and after, so that an installation that was cut off can be repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.errors import ConfigurationError
from criimage.files import SIZE_LIMIT, UnreadableFile, is_folder, read_if_there
from criimage.foreign_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage.shipping.places import Places

__all__ = ["Change", "Record"]

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a file, or of a folder.

    Attributes:
        act: `written`, `replaced`, `unchanged`, `removed`, or `kept`: it is there and not as installed.
        path: as the running system sees it.
    """

    act: str
    path: Path


@dataclass(slots=True)
class Record:
    """What is installed.

    Attributes:
        places: where.
        dry_run: whether nothing is to be changed, only told.
        files: path to the digests that count as installed.
        folders: those made for them, outermost first.
    """

    places: Places
    dry_run: bool = False
    files: dict[str, list[str]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, places: Places, *, dry_run: bool = False) -> Record:
        """Return the record that is there, or an empty one.

        Raises:
            ConfigurationError: it cannot be read, or is none.
        """
        path = places.real(places.record)
        content = read_if_there(path)
        if content is None:
            return cls(places, dry_run)
        try:
            found = parse_object(content)
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        files, folders = found.get("files"), found.get("folders")
        if not isinstance(files, dict) or not isinstance(folders, list):
            raise ConfigurationError(f"{path}: not a record of `criimage install`")
        known = {key: digests for key, digests in files.items() if isinstance(digests, list) and _is_clean(key)}
        return cls(places, dry_run, known, [name for name in folders if isinstance(name, str) and _is_clean(name)])

    def install(self, wanted: Mapping[Path, str]) -> Iterator[Change]:
        """Bring the machine to `wanted`, file by file; what was installed and is not wanted any more is taken back.

        Raises:
            OSError: something cannot be written; what was done until then is in the record.
        """
        texts = {str(path): text.encode() for path, text in wanted.items()}
        before = dict(self.files)
        for name, content in texts.items():
            self.files[name] = [*dict.fromkeys([*before.get(name, []), _digest(content)])]
        self._write()
        try:
            for new, content in texts.items():
                yield self._installed(new, content, before.get(new, []))
            for old in [name for name in before if name not in texts]:
                yield self._taken_back(old)
        finally:
            self._write()

    def uninstall(self, shipped: Mapping[Path, str]) -> Iterator[Change]:
        """Take back what is installed, and the folders made for it that are empty then.

        Args:
            shipped: what this version would install; counts as installed where no record says more.

        Raises:
            OSError: something cannot be deleted; the record still has it.
        """
        for path, text in shipped.items():
            self.files.setdefault(str(path), [_digest(text.encode())])
        for name in list(self.files):
            if self._state(name) is not None:
                yield self._taken_back(name)
        if not self.dry_run:
            record = self.places.real(self.places.record)
            record.unlink(missing_ok=True)
            for folder in reversed(self.folders):
                with contextlib.suppress(OSError):
                    self.places.real(Path(folder)).rmdir()

    def _installed(self, path: str, content: bytes, before: list[str]) -> Change:
        there, new = self._state(path), _digest(content)
        if there == new:
            self.files[path] = [new]
            return Change("unchanged", Path(path))
        if there is not None and there not in before:
            self.files[path] = before
            if not before:
                del self.files[path]
            return Change("kept", Path(path))
        if not self.dry_run:
            self._make_folder(Path(path).parent)
            _replace(self.places.real(Path(path)), content)
        self.files[path] = [new]
        return Change("written" if there is None else "replaced", Path(path))

    def _taken_back(self, path: str) -> Change:
        there = self._state(path)
        if there is not None and there not in self.files[path]:
            return Change("kept", Path(path))
        if not self.dry_run:
            self.places.real(Path(path)).unlink(missing_ok=True)
        del self.files[path]
        return Change("removed", Path(path))

    def _state(self, path: str) -> str | None:
        """Return the digest of the file, None where there is none, or a word that no digest is."""
        real = self.places.real(Path(path))
        try:
            kind = real.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        # Nothing here makes links: a unit that is masked is one to /dev/null.
        if not stat.S_ISREG(kind):
            return "no file"
        try:
            return _digest(real.read_bytes()) if real.stat().st_size <= SIZE_LIMIT else "too large"
        except OSError as error:
            raise UnreadableFile(real, error.strerror or str(error)) from error

    def _make_folder(self, folder: Path) -> None:
        for above in [*reversed(folder.parents), folder]:
            real = self.places.real(above)
            if not is_folder(real):
                real.mkdir(parents=True)
                real.chmod(_FOLDER_MODE)
                if str(above) not in self.folders:
                    self.folders.append(str(above))

    def _write(self) -> None:
        if self.dry_run:
            return
        self._make_folder(self.places.record.parent)
        text = json.dumps({"files": self.files, "folders": self.folders}, indent=1)
        _replace(self.places.real(self.places.record), f"{text}\n".encode())


def _is_clean(path: str) -> bool:
    return path.startswith("/") and ".." not in path.split("/")


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(_FILE_MODE)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            # What is written names no file, as what is written to standard output.
            error.filename = str(path)
        raise
