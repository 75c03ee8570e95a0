"""Where the files of an installation go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from criimage.files import is_there

__all__ = ["Places"]

_SYSTEM = Path("/usr")


@dataclass(frozen=True, slots=True)
class Places:
    """Folders by what they hold; every path is as the running system sees it, without `root`.

    Attributes:
        prefix: of what is the same on every machine: manual, completion, dashboards and the record.
        unit_dir: of systemd's units; None: where they belong with this prefix.
        root: the folder that stands for `/` when files are written, for images and packages.
    """

    prefix: Path = Path("/usr/local")
    unit_dir: Path | None = None
    root: Path = Path("/")

    @property
    def units(self) -> Path:
        """Of systemd's units: an administrator's own where the prefix is not a package's."""
        if self.unit_dir is not None:
            return self.unit_dir
        return Path("/usr/lib/systemd/system" if self._packaged else "/etc/systemd/system")

    @property
    def tmpfiles(self) -> Path:
        """Of what systemd-tmpfiles makes at boot."""
        return Path("/usr/lib/tmpfiles.d" if self._packaged else "/etc/tmpfiles.d")

    @property
    def settings(self) -> Path:
        """The settings file, which the server reads by itself."""
        return Path("/etc/criimage/config.toml")

    @property
    def share(self) -> Path:
        """Of what only criimage and people read."""
        return self.prefix / "share" / "criimage"

    @property
    def record(self) -> Path:
        """The record of what was installed."""
        return self.share / "installed.json"

    def manual(self, section: int) -> Path:
        """Of the manual pages of a section."""
        return self.prefix / "share" / "man" / f"man{section}"

    def completion(self, shell: str) -> Path:
        """The file that a shell finds by itself."""
        below = {
            "bash": "bash-completion/completions/criimage",
            "zsh": "zsh/site-functions/_criimage",
            "fish": "fish/vendor_completions.d/criimage.fish",
        }
        if shell == "zsh" and self._packaged and is_there(self.real(Path("/etc/debian_version"))):
            # Debian's zsh looks for packages' completion there, and nowhere else below /usr.
            return self.prefix / "share" / "zsh" / "vendor-completions" / "_criimage"
        return self.prefix / "share" / below[shell]

    def real(self, path: Path) -> Path:
        """Return where a path is on this machine."""
        return self.root / path.relative_to("/")

    @property
    def _packaged(self) -> bool:
        return self.prefix == _SYSTEM
