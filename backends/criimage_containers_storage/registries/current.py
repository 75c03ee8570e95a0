"""registries.conf as it is now, or as it was when it could last be used.

An administrator's slip must not stop a node's pulls: a file that is not valid is told about once, and the one before it
goes on counting until there is a valid one. skopeo gets the main file from us, so it can be given the earlier one. Its
drop-ins it reads itself, and refuses to work while one of them is not valid.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile, read_if_there
from criimage_containers_storage.registries.registries_conf import read_registries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from criimage_containers_storage.config_files import ConfigFiles
    from criimage_containers_storage.registries.registries_conf import Registries

__all__ = ["Configuration", "CurrentRegistries"]

_log = structlog.get_logger(__name__)


class _Judge(Protocol):
    def verdict(self, files: ConfigFiles, main: Path | None) -> str: ...


@dataclass(frozen=True, slots=True)
class Configuration:
    """By what a pull goes.

    Attributes:
        registries: what the files say.
        files: where they are.
        main: the main file as it was when it was valid, in place of the one on disk; None for that one.
        signature: changes when any of the files does; None if that cannot be told.
    """

    registries: Registries
    files: ConfigFiles
    main: Path | None = None
    signature: object = None


class CurrentRegistries:
    """Reads the files again when one has changed. Every method may block on small files, and may be called by threads.

    Args:
        find: tells where they are now.
        alias_cache: where the tools remember the aliases that a person chose.
        folder: of our own, for the main file as it was when it was valid.
        judge: says what is wrong with files that have changed.
    """

    def __init__(self, find: Callable[[], ConfigFiles], alias_cache: Path, folder: Path, judge: _Judge) -> None:
        self._find = find
        self._files: ConfigFiles | None = None
        self._alias_cache = alias_cache
        self._judge = judge
        self._kept = folder / "registries.conf"
        self._lock = threading.Lock()
        self._signature: object = None
        self._registries: Registries | None = None
        self._main: bytes | None = None
        self._fault: ConfigurationError | None = None
        self._goes_on = False

    def for_names(self) -> Registries:
        """Return the last valid configuration.

        Raises:
            ConfigurationError: there has been none yet.
        """
        with self._lock:
            self._look()
            if self._registries is None:
                raise self._failure()
            return self._registries

    def for_pull(self) -> Configuration:
        """Return the configuration that skopeo will go by.

        Raises:
            ConfigurationError: a file is not valid that skopeo looks at itself, or there is no valid main file yet.
        """
        with self._lock:
            self._look()
            if self._registries is None or self._files is None or (self._fault is not None and not self._goes_on):
                raise self._failure()
            return Configuration(self._registries, self._files, self._kept if self._goes_on else None, self._signature)

    def fault(self) -> tuple[ConfigurationError | None, bool]:
        """Return what is wrong with the files as they are now, and whether pulls go on by what was there before."""
        with self._lock:
            self._look()
            return self._fault, self._goes_on

    def _failure(self) -> ConfigurationError:
        assert self._fault is not None  # noqa: S101 - what was looked at is valid or has a fault
        return self._fault.for_another_waiter()

    def _look(self) -> None:
        before = self._fault
        signature: object = None
        try:
            self._files = self._find()
            signature = _signature(self._files, self._alias_cache)
            if signature is not None and signature == self._signature:
                return
            main = read_if_there(self._files.main)
            registries = read_registries(self._files, self._alias_cache)
            if said := self._judge.verdict(self._files, None):
                raise ConfigurationError(f"skopeo refuses registries.conf: {said}")  # noqa: TRY301 - one way to fail
        except ConfigurationError as error:
            # What cannot be read may pass without a change of any file: it is looked at again.
            self._signature = None if isinstance(error, UnreadableFile) else signature
            self._fault = error
            self._goes_on = self._go_on_with_the_last()
            if before is None or before.text != error.text:
                used = self._registries is not None
                _log.error("registries.conf is not valid", error=error.text, earlier_one_used=used)
        else:
            # Only now: whatever else stopped the reading, it is no reason not to look again.
            self._signature = signature
            self._registries, self._main, self._fault, self._goes_on = registries, main, None, False
            if before is not None:
                _log.info("registries.conf is valid again", file=registries.source)

    def _go_on_with_the_last(self) -> bool:
        if self._registries is None or self._files is None:
            return False
        try:
            # Is it the main file alone, then its last content goes well with the drop-ins as they are now.
            registries = read_registries(self._files, self._alias_cache, self._main or b"")
            self._kept.write_bytes(self._main or b"")
        except (OSError, ConfigurationError):
            return False
        if self._judge.verdict(self._files, self._kept):
            return False
        self._registries = registries
        return True


def _signature(files: ConfigFiles, alias_cache: Path) -> object:
    """Return a value that changes when any of the files does, or None if it cannot be told. Blocks on some stats."""
    try:
        found = [*files.mains, *files.drop_ins(), alias_cache]
        return tuple((str(file), _stat(file)) for file in found)
    except (OSError, ConfigurationError):
        return None


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - what went wrong must be seen
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
