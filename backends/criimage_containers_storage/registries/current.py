"""registries.conf as it is now, or as it was when it could last be used.

An administrator's slip must not stop a node's pulls: a file that is not valid is told about once, and the one before it
goes on counting until there is a valid one. skopeo gets the main file from us, so it can be given the earlier one. Its
drop-ins it reads itself, and refuses to work while one of them is not valid.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from criimage.errors import ConfigurationError
from criimage_containers_storage.registries.registries_conf import read_registries

if TYPE_CHECKING:
    from pathlib import Path

    from criimage_containers_storage.registries.registries_conf import Registries, RegistriesFiles

__all__ = ["CurrentRegistries"]

_log = structlog.get_logger(__name__)


class CurrentRegistries:
    """Reads the files again when one has changed. Every method may block on small files, and may be called by threads.

    Args:
        files: where they are.
        folder: of our own, for the main file as it was when it was valid.
    """

    def __init__(self, files: RegistriesFiles, folder: Path) -> None:
        self._files = files
        self._kept = folder / "registries.conf"
        self._lock = threading.Lock()
        self._signature: tuple[object, ...] | None = None
        self._registries: Registries | None = None
        self._main: bytes | None = None
        self._fault: ConfigurationError | None = None
        self._for_skopeo: Path | None = None

    def for_names(self) -> Registries:
        """Return the last valid configuration.

        Raises:
            ConfigurationError: there has been none yet.
        """
        with self._lock:
            self._look()
            if self._registries is None:
                assert self._fault is not None  # noqa: S101 - for the type checker
                raise self._fault.for_another_waiter()
            return self._registries

    def for_pull(self) -> tuple[Registries, Path | None]:
        """Return the configuration that skopeo will go by, and the main file to give to it if there is one.

        Raises:
            ConfigurationError: a file is not valid that skopeo looks at itself, or there is no valid main file yet.
        """
        with self._lock:
            self._look()
            if self._registries is None or (self._fault is not None and self._for_skopeo != self._kept):
                assert self._fault is not None  # noqa: S101 - for the type checker
                raise self._fault.for_another_waiter()
            return self._registries, self._for_skopeo

    def fault(self) -> tuple[ConfigurationError | None, bool]:
        """Return what is wrong with the files as they are now, and whether pulls go on by what was there before."""
        with self._lock:
            self._look()
            return self._fault, self._for_skopeo == self._kept

    def _look(self) -> None:
        signature = self._files.signature()
        if signature == self._signature:
            return
        self._signature = signature
        before = self._fault
        try:
            main = self._read_main()
            self._registries = read_registries(self._files, main or b"")
        except ConfigurationError as error:
            self._fault = error
            self._go_on_with_the_last()
            if before is None or before.text != error.text:
                used = self._registries is not None
                _log.error("registries.conf is not valid", error=error.text, earlier_one_used=used)
        else:
            self._main, self._fault = main, None
            self._for_skopeo = None if main is None else self._files.main
            if before is not None:
                _log.info("registries.conf is valid again", file=str(self._files.main))

    def _read_main(self) -> bytes | None:
        try:
            return self._files.main.read_bytes()
        except FileNotFoundError:
            if not self._files.chosen:
                return None
            raise ConfigurationError(f"there is no {self._files.main}") from None
        except OSError as error:
            raise ConfigurationError(f"cannot use {self._files.main}: {error.strerror}") from error

    def _go_on_with_the_last(self) -> None:
        self._for_skopeo = None
        if self._registries is None:
            return
        try:
            # Is it the main file alone, then its last content goes well with the drop-ins as they are now.
            self._registries = read_registries(self._files, self._main or b"")
            self._kept.write_bytes(self._main or b"")
        except (OSError, ConfigurationError):
            return
        self._for_skopeo = self._kept
