"""Where the containers tools find their files: two rule sets, chosen by skopeo's version.

We read what the skopeo beside us reads, so the rules are its own:

    matter                   older (before 1.23)                      newer (1.23 and later)
    registries.conf          ~/.config, else /etc                     $XDG_CONFIG_HOME or ~/.config, /etc, /usr/share
      its drop-ins           /etc, then ~/.config; ~/.config alone    one list by base name of all folders; of equal
                             where the main file is there             names the one of the highest place counts
      variable               none (buildah's counts for names)        CONTAINERS_REGISTRIES_CONF: no drop-ins;
                                                                      ..._OVERRIDE is read last
    policy.json              ~/.config, else /etc                     also /usr/share; CONTAINERS_POLICY_JSON
    storage.conf             $XDG_CONFIG_HOME (~/.config for others   ~/.config, /etc, /usr/share, also for root;
                             than root), /etc, /usr/share             drop-ins and ..._OVERRIDE as above

The folders are those of `containers` below these places. Older: containers/image 5.22 to 5.38, storage 1.43 to 1.62.
Newer: containers/storage `pkg/configfile`.
"""

from __future__ import annotations

import enum
import os
import pwd
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.files import UnreadableFile, is_link, is_there

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ConfigFiles",
    "RuleSet",
    "alias_cache",
    "home_folder",
    "is_of_the_machine",
    "policy_file",
    "registries_files",
    "rule_set",
    "storage_files",
]

_NEWER_FROM = (1, 23)
_VERSION = re.compile(r"skopeo version ([0-9]{1,6})\.([0-9]{1,6})")
_VERSION_SECONDS = 10.0
_ETC = Path("/etc/containers")
_SHARE = Path("/usr/share/containers")
_CONF = ".conf"
_ALIASES = "containers/short-name-aliases.conf"


class RuleSet(enum.Enum):
    """By which rules the tools look for their files."""

    OLDER = "older"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class ConfigFiles:
    """The files of one kind of configuration; some may not exist.

    Attributes:
        mains: the first one that exists counts.
        folders: of drop-ins, the highest place last.
        chosen: somebody asked for this very main file, so it has to exist.
        last: one more file, read after all others, that has to exist; None if there is none.
        rules: by which these were found.
    """

    mains: tuple[Path, ...]
    folders: tuple[Path, ...] = ()
    chosen: bool = False
    last: Path | None = None
    rules: RuleSet = RuleSet.OLDER

    @property
    def main(self) -> Path:
        """The main file that counts now, or the last place for one where there is none. Blocks.

        Raises:
            UnreadableFile: it cannot be told whether one is there.
        """
        return next((file for file in self.mains if is_there(file)), self.mains[-1])

    def drop_ins(self) -> tuple[Path, ...]:
        """Return the drop-ins in the order in which they are read. Blocks.

        Raises:
            UnreadableFile: a folder cannot be looked at; the tools refuse to work then.
        """
        found = [*self._listed(), *([self.last] if self.last else [])]
        return tuple(found)

    def _listed(self) -> Iterator[Path]:
        if self.rules is RuleSet.NEWER:
            by_name = {file.name: file for folder in self.folders for file in _entries(folder, only_regular=True)}
            yield from (by_name[name] for name in sorted(by_name, key=os.fsencode))
            return
        for folder in self.folders:
            # The walk does not follow a link in place of the folder itself.
            if not is_link(folder):
                yield from sorted(_entries(folder, only_regular=False), key=lambda file: os.fsencode(file.name))


def _entries(folder: Path, *, only_regular: bool) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                fits = stat.S_ISREG(mode) if only_regular else not stat.S_ISDIR(mode)
                if fits and entry.name.endswith(_CONF):
                    yield Path(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UnreadableFile(folder, error.strerror or type(error).__name__) from error


def rule_set(environment: Mapping[str, str], program: str = "skopeo") -> tuple[RuleSet, str]:
    """Ask skopeo for its version, and return the rules it follows with the version. Blocks for a moment.

    Without a skopeo nothing can be pulled; the older rules and an empty version are the answer then.
    """
    try:
        said = subprocess.run(  # noqa: S603 - the tool that all pulls run
            [program, "--version"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_VERSION_SECONDS,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return RuleSet.OLDER, ""
    found = _VERSION.search(said[:1000])
    if found is None:
        return RuleSet.OLDER, ""
    version = said[:1000].split()[2]
    return (RuleSet.NEWER if tuple(map(int, found.groups())) >= _NEWER_FROM else RuleSet.OLDER), version


def home_folder(environment: Mapping[str, str]) -> Path:
    """Return the user's home: HOME, else what the machine knows of the user, as the tools do."""
    home = environment.get("HOME", "")
    if home:
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path("/")


def registries_files(explicit: str, environment: Mapping[str, str], rules: RuleSet, *, uid: int) -> ConfigFiles:
    """Return the files of registries.conf.

    Args:
        explicit: the operator's setting of the main file.
        environment: HOME, XDG_CONFIG_HOME, CONTAINERS_REGISTRIES_CONF.
        rules: of the skopeo in use.
        uid: whose; root's is 0.

    Raises:
        UnreadableFile: the user's folder cannot be looked at.
    """
    chosen = explicit or environment.get("CONTAINERS_REGISTRIES_CONF", "")
    if rules is RuleSet.NEWER:
        return _newer("registries", chosen, environment, "CONTAINERS_REGISTRIES_CONF", uid)
    # buildah and podman honour the variable; an older skopeo does not, and is told the file by us (T1).
    user = home_folder(environment) / ".config/containers"
    own, system = user / "registries.conf.d", _ETC / "registries.conf.d"
    if chosen:
        return ConfigFiles((Path(chosen),), (system, own), chosen=True)
    if is_there(user / "registries.conf"):
        return ConfigFiles((user / "registries.conf",), (own,))
    return ConfigFiles((_ETC / "registries.conf",), (system, own))


def alias_cache(environment: Mapping[str, str], *, uid: int) -> Path:
    """Return where the tools remember the aliases that a person chose (N10, X1)."""
    if uid == 0:
        return Path("/var/cache") / _ALIASES
    return Path(environment.get("XDG_CACHE_HOME") or home_folder(environment) / ".cache") / _ALIASES


def policy_file(explicit: str, environment: Mapping[str, str], rules: RuleSet) -> Path:
    """Return the signature policy that counts: the operator's, the user's, else the system's. Blocks.

    Raises:
        UnreadableFile: it cannot be told whether the user has one.
    """
    variable = environment.get("CONTAINERS_POLICY_JSON", "") if rules is RuleSet.NEWER else ""
    if explicit or variable:
        return Path(explicit or variable)
    if rules is RuleSet.NEWER:
        places = (_user_folder(environment), _ETC, _SHARE)
        found = (place / "policy.json" for place in places)
        return next((file for file in found if is_there(file)), _ETC / "policy.json")
    user = home_folder(environment) / ".config/containers/policy.json"
    return user if is_there(user) else _ETC / "policy.json"


def storage_files(environment: Mapping[str, str], rules: RuleSet, *, uid: int) -> ConfigFiles:
    """Return the files of storage.conf.

    Args:
        environment: HOME, XDG_CONFIG_HOME, CONTAINERS_STORAGE_CONF.
        rules: of the skopeo in use.
        uid: whose; root's is 0.
    """
    chosen = environment.get("CONTAINERS_STORAGE_CONF", "")
    if rules is RuleSet.NEWER:
        return _newer("storage", chosen, environment, "CONTAINERS_STORAGE_CONF", uid)
    if chosen:
        return ConfigFiles((Path(chosen),), chosen=True)
    # Root's own home is looked at only where it is called by the variable.
    user = environment.get("XDG_CONFIG_HOME", "") or ("" if uid == 0 else str(home_folder(environment) / ".config"))
    own = (Path(user) / "containers/storage.conf",) if user else ()
    return ConfigFiles((*own, _ETC / "storage.conf", _SHARE / "storage.conf"))


def is_of_the_machine(file: Path) -> bool:
    """Tell whether a file is one of those that count for every user."""
    return file.parent in {_ETC, _SHARE}


def _newer(name: str, chosen: str, environment: Mapping[str, str], variable: str, uid: int) -> ConfigFiles:
    last = environment.get(f"{variable}_OVERRIDE", "")
    override = Path(last) if last else None
    if chosen:
        return ConfigFiles((Path(chosen),), (), chosen=True, last=override, rules=RuleSet.NEWER)
    user = _user_folder(environment)
    folders: list[Path] = []
    for place in (_SHARE, _ETC):
        special = place / f"{name}.{'rootless' if uid else 'rootful'}.conf.d"
        folders += ([special / str(uid)] if uid else []) + [special, place / f"{name}.conf.d"]
    folders.append(user / f"{name}.conf.d")
    mains = tuple(place / f"{name}.conf" for place in (user, _ETC, _SHARE))
    return ConfigFiles(mains, tuple(folders), last=override, rules=RuleSet.NEWER)


def _user_folder(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("XDG_CONFIG_HOME") or home_folder(environment) / ".config") / "containers"
