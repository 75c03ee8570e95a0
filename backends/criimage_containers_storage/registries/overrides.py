"""What one run of skopeo is told over and above the machine's registries.conf.

Two things must hold for a pull whatever the files say: that the request's credentials come first, and that a blocked
source is not asked. Both are written into a file that skopeo reads last: with the newer rules the one that
CONTAINERS_REGISTRIES_CONF_OVERRIDE names, with the older ones the last of the user's drop-ins, in a home of its own
for this run in which everything else leads to the real one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from criimage.files import UnreadableFile, entries_of, is_folder, is_link, read
from criimage.foreign_toml import parse_toml
from criimage_containers_storage.config_files import RuleSet, home_folder
from criimage_containers_storage.registries.registries_conf import DEFAULT_HELPER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from criimage_containers_storage.config_files import ConfigFiles

__all__ = ["NOTHING", "NOTHING_TOLD", "Override", "Told", "in_force"]

_DROP_INS = "registries.conf.d"


@dataclass(frozen=True, slots=True)
class Override:
    """What is to hold whatever the machine's files say.

    Attributes:
        helpers: credential helpers that are asked after the auth file; None leaves the machine's order.
        blocked: repositories, host first, that must not be asked.
    """

    helpers: tuple[str, ...] | None = None
    blocked: tuple[str, ...] = ()


NOTHING = Override()


@dataclass(frozen=True, slots=True)
class Told:
    """How skopeo is told about its configuration.

    Attributes:
        flags: before the verb.
        environment: variables beside or in place of its usual ones.
        home: a home of this run's own, or None.
    """

    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    home: Path | None = None


NOTHING_TOLD = Told()


def in_force(
    override: Override, files: ConfigFiles, main: Path | None, folder: Path, environment: Mapping[str, str]
) -> Told:
    """Return how to tell skopeo. Blocks on small files.

    Args:
        override: what is to hold.
        files: of the machine.
        main: a main file in place of theirs, or None.
        folder: empty or not there yet, this run's own, and there as long as it runs.
        environment: the tool's.

    Raises:
        OSError: the folder cannot be written.
        ConfigurationError: a file that is to be read last cannot be read.
    """
    newer = files.rules is RuleSet.NEWER
    main = main or (files.main if files.chosen else None)
    variables: dict[str, str] = {}
    flags: tuple[str, ...] = ()
    if newer and files.chosen and main is not None:
        # The flag would read the drop-ins as well.
        variables["CONTAINERS_REGISTRIES_CONF"] = str(main)
    elif main is not None:
        flags = ("--registries-conf", str(main))
    if override == NOTHING:
        return Told(flags, variables)
    folder.mkdir(0o700, parents=True, exist_ok=True)
    if newer:
        file = folder / "override.conf"
        file.write_text(_document(override, files.last), "utf-8")
        return Told(flags, {**variables, "CONTAINERS_REGISTRIES_CONF_OVERRIDE": str(file)})
    home = _home(home_folder(environment), folder / "home", _document(override, None))
    return Told(flags, {**variables, "HOME": str(home)}, home)


def _home(real: Path, home: Path, last: str) -> Path:
    """Make a home in which only the user's drop-ins are one more."""
    _linked(real, home, {".config"})
    _linked(real / ".config", home / ".config", {"containers"})
    _linked(real / ".config/containers", home / ".config/containers", {_DROP_INS})
    drop_ins = home / ".config/containers" / _DROP_INS
    theirs = real / ".config/containers" / _DROP_INS
    names = [] if _is(is_link, theirs) else _linked(theirs, drop_ins, set(), only_files=True)
    drop_ins.mkdir(0o700, exist_ok=True)
    # In Go's order a name comes before what it is the beginning of.
    (drop_ins / f"{max(names, default='')}~criimage.conf").write_text(last, "utf-8")
    return home


def _linked(real: Path, made: Path, without: set[str], *, only_files: bool = False) -> list[str]:
    made.mkdir(0o700, parents=True, exist_ok=True)
    try:
        entries = entries_of(real)
    except UnreadableFile:
        # skopeo, which runs as the same user, could not look at it either.
        return []
    names = [one.name for one in entries if one.name not in without and not (only_files and _is(is_folder, one))]
    for name in names:
        (made / name).symlink_to(real / name)
    return names


def _is(question: Callable[[Path], bool], path: Path) -> bool:
    """Tell whether it is so; what cannot be looked at is left to skopeo, which says why."""
    try:
        return question(path)
    except UnreadableFile:
        return False


def _document(override: Override, theirs: Path | None) -> str:
    document: dict[str, Any] = {} if theirs is None else parse_toml(read(theirs))
    if override.helpers is not None:
        document = {key: value for key, value in document.items() if key.casefold() != "credential-helpers"}
        others = [helper for helper in override.helpers if helper != DEFAULT_HELPER]
        document["credential-helpers"] = [DEFAULT_HELPER, *others]
    if override.blocked:
        key = next((key for key in document if key.casefold() == "registry"), "registry")
        tables = [{"prefix": one, "location": one, "blocked": True} for one in override.blocked]
        # The first of equal prefixes counts.
        document[key] = [*tables, *document.get(key, [])]
    return "".join(f"{_value(key)} = {_value(value)}\n" for key, value in document.items())


def _value(value: object) -> str:
    """Return a value as TOML that fits on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_value(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
