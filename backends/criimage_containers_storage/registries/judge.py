"""Whether registries.conf is right: skopeo says it, without any network (cri-o section 14).

It is asked in a thread and once for a change, for all who wait; a caller that leaves does not end it, its limit does.

`login --get-login` reads the whole configuration before it looks for a login; it fails in any case, so its text counts.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from criimage.foreign_text import readable
from criimage_containers_storage.config_files import home_folder
from criimage_containers_storage.registries.overrides import Override, in_force

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage_containers_storage.config_files import ConfigFiles

__all__ = ["Judge"]

_log = structlog.get_logger(__name__)

_HOST = "criimage.invalid"
_SECONDS = 3.0
_LIMIT = 600
_REFUSES = ("registries configuration", "registries.conf.d")


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks the skopeo that pulls.

    Attributes:
        environment: of the tool.
        program: its name.
    """

    environment: Mapping[str, str]
    program: str = "skopeo"

    def verdict(self, files: ConfigFiles, main: Path | None) -> str:
        """Return what skopeo has against the configuration, empty if nothing or if it cannot be asked. Blocks.

        Args:
            files: of the configuration.
            main: a file to be taken for the main one; None for the one that counts.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="criimage-judge-") as name:
                said, home = self._said(files, main, Path(name))
        except (OSError, subprocess.TimeoutExpired) as error:
            # A full disk says nothing about the files.
            _log.debug("skopeo cannot be asked about registries.conf", error=str(error))
            return ""
        fatal = next((line for line in said[-65536:].splitlines() if "level=fatal" in line), "")
        if not any(words in fatal for words in _REFUSES):
            return ""
        words = fatal.partition('msg="get credentials: ')[2].rstrip('"') or fatal
        words = words.replace(f"{home}/", f"{home_folder(self.environment)}/") if home else words
        return readable(words.replace('\\"', '"').replace("\\\\", "\\"), _LIMIT)

    def _said(self, files: ConfigFiles, main: Path | None, folder: Path) -> tuple[str, Path | None]:
        """Return what skopeo says on standard error, and the home that it was given, if any."""
        (folder / "auth.json").write_text("{}")
        # No helper is to be asked, whatever the files say.
        told = in_force(Override(helpers=()), files, main, folder, self.environment)
        command = [self.program, *told.flags, "login", "--authfile", str(folder / "auth.json")]
        ended = subprocess.run(  # noqa: S603 - the tool that all pulls run
            [*command, "--get-login", _HOST],
            env={**self.environment, **told.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            start_new_session=True,
        )
        return ended.stderr, told.home
