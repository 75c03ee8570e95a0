"""Where the store is: our settings, else the environment, else storage.conf, else what the tools assume (L13, X1)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.errors import ConfigurationError
from criimage.files import is_folder, read, read_if_there
from criimage.foreign_toml import parse_toml
from criimage_containers_storage.config_files import RuleSet, home_folder, is_of_the_machine, storage_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage_containers_storage.settings import Settings

__all__ = ["Layout", "locate"]

_DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
_ALIASES = {"overlay2": "overlay"}
# What the tools read from a driver's own table; what stands directly in [storage.options] counts for each driver.
# `mountopt` is not among them: it carries commas in practice, which the store's name cannot (T2), and matters to
# mounting only, which no pull does.
_OPTIONS = {
    "overlay": ("ignore_chown_errors", "mount_program", "size", "inodes", "skip_mount_home", "force_mask"),
    "vfs": ("ignore_chown_errors",),
    "btrfs": ("min_space", "size"),
    "zfs": ("fsname", "size"),
}
_NEWER_OPTIONS = {"overlay": ("use_composefs", "sync"), "vfs": ("sync",)}
_DIRECT = ("size", "mount_program", "skip_mount_home", "ignore_chown_errors", "force_mask")
# What changes what a pull writes and has no place in the store's name.
_NOT_FOLLOWED = ("remap-uids", "remap-gids", "remap-user", "remap-group", "additionallayerstores")
_SPLITS_FROM = (1, 14)
_NUMBERS = re.compile(r"(\d{1,6})\.(\d{1,6})")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")


@dataclass(frozen=True, slots=True)
class Layout:
    """One store on disk.

    Attributes:
        root: holds `<driver>`, `<driver>-images`, `<driver>-layers`, `<driver>-containers`.
        run_root: state that need not survive a restart.
        driver: name of the storage driver.
        options: driver options, `name=value`.
        additional: roots of read-only stores of the same driver, in order (L12).
        image_store: where a split store has its images and what their layers hold; containers and the list of layers
            are in `root` (V4). None: not split.
    """

    root: Path
    run_root: Path
    driver: str
    options: tuple[str, ...] = ()
    additional: tuple[Path, ...] = ()
    image_store: Path | None = None

    @property
    def writable_roots(self) -> tuple[Path, ...]:
        """Where images can be removed from, in the tools' order: what was in `root` before it was split stays."""
        return (self.root,) if self.image_store is None else (self.image_store, self.root)

    @property
    def store_options(self) -> list[str]:
        """All options of the driver, the additional stores among them."""
        return [*self.options, *(f"{self.driver}.imagestore={path}" for path in self.additional)]

    @property
    def spec(self) -> str:
        """The store as skopeo names it; complete, so that no storage.conf is looked at (T2).

        Empty where it is split: such a store can be named by a storage.conf only (`split_store`).
        """
        if self.image_store is not None:
            return ""
        options = ",".join(self.store_options)
        return f"[{self.driver}@{self.root}+{self.run_root}{':' + options if options else ''}]"

    @property
    def flags(self) -> list[str]:
        """The store as the `containers-storage` command wants it."""
        flags = ["-g", str(self.root), "-R", str(self.run_root), "-s", self.driver]
        return flags + [part for option in self.store_options for part in ("--storage-opt", option)]

    @property
    def images_folder(self) -> Path:
        """Where the image records of the writable store are; what clients get to see as its mount point (F1)."""
        return self.writable_roots[0] / f"{self.driver}-images"


def locate(
    settings: Settings, environment: Mapping[str, str], rules: RuleSet = RuleSet.OLDER, version: str = ""
) -> Layout:
    """Find the store.

    Blocks on a few small files.

    Args:
        settings: what is set here wins.
        environment: CONTAINERS_STORAGE_CONF, STORAGE_DRIVER, STORAGE_OPTS, HOME, XDG_*.
        rules: by which the skopeo in use finds its files.
        version: of that skopeo; empty if it is not known.

    Raises:
        ConfigurationError: storage.conf cannot be read, or says what the tools cannot be given; it is named. Or it
            depends on what is in the store which driver it has, and that cannot be looked at.
    """
    rootless = os.geteuid() != 0
    conf, source = _read_conf(environment, rules)
    storage = _table(conf, "storage", source)
    options = _table(storage, "options", source)
    _refuse(options, source)
    split = "" if settings.root else _split(storage, options, source, version)
    default_root, default_run = _defaults(environment, rootless=rootless)
    rootless_path = _text(storage, "rootless_storage_path", source) if rootless else ""
    # With the older rules the machine's own file tells users everything but where: those places are root's.
    theirs = rootless and rules is RuleSet.OLDER and is_of_the_machine(Path(source))
    graph_root, state = ("", "") if theirs else (_text(storage, key, source) for key in ("graphroot", "runroot"))
    first, second = (graph_root, rootless_path) if rules is RuleSet.NEWER else (rootless_path, graph_root)
    root = Path(settings.root or _expand(first or second, environment) or default_root)
    run_root = Path(settings.run_root or _expand(state, environment) or default_run)
    named = settings.driver or environment.get("STORAGE_DRIVER", "") or _text(storage, "driver", source)
    driver = _ALIASES.get(named, named) or _found(root)
    given = list(settings.options)
    additional = [Path(path) for path in _list(options, "additionalimagestores", source) if path]
    if not given and "STORAGE_OPTS" in environment:
        # It stands for all options, and read-only stores are options.
        given, additional = [option for option in environment["STORAGE_OPTS"].split(",") if option], []
    elif not given:
        given = list(_driver_options(options, driver, rules, source))
    for prefix in (f"{driver}.imagestore=", "imagestore="):
        additional += [Path(option.removeprefix(prefix)) for option in given if option.startswith(prefix)]
        given = [option for option in given if not option.startswith(prefix)]
    image_store = Path(_expand(split, environment)) if split else None
    for path in (root, run_root, *additional, *([image_store] if image_store else ())):
        if not path.is_absolute() or set("[]@+:,=") & set(str(path)):
            raise ConfigurationError(f"the storage path {path} of {source} cannot be given to skopeo; set another one")
    if image_store == root:
        raise ConfigurationError(f"{source}: storage.imagestore and graphroot are one folder, {root}; leave one out")
    return Layout(root, run_root, driver, tuple(given), tuple(dict.fromkeys(additional)), image_store)


def _split(storage: dict[str, Any], options: dict[str, Any], source: str, version: str) -> str:
    """Return where the images of a split store are, empty if it is not split (V4).

    Raises:
        ConfigurationError: it is, and this skopeo would write the images into the graph root all the same: those
            before 1.14 do not know the key, and none reads it from `[storage.options]`.
    """
    if options.get("imagestore"):
        raise ConfigurationError(
            f"{source} sets storage.options.imagestore, which skopeo does not read; write it in [storage]"
        )
    path = _text(storage, "imagestore", source)
    numbers = _NUMBERS.match(version)
    if path and (numbers is None or tuple(map(int, numbers.groups())) < _SPLITS_FROM):
        shown = f"skopeo {version}" if version else "a skopeo of unknown version"
        raise ConfigurationError(
            f"{source} sets storage.imagestore, which {shown} does not follow; use skopeo 1.14 or later, or set "
            "root to one store"
        )
    if path and os.geteuid() != 0:
        raise ConfigurationError(
            f"{source} sets storage.imagestore, which this backend follows for root only; set root to one store"
        )
    return path


def _refuse(options: dict[str, Any], source: str) -> None:
    for key in _NOT_FOLLOWED:
        if options.get(key):
            raise ConfigurationError(
                f"{source} sets storage.options.{key}, which this backend cannot follow; "
                "give it a storage.conf without, by CONTAINERS_STORAGE_CONF"
            )


def _read_conf(environment: Mapping[str, str], rules: RuleSet) -> tuple[dict[str, Any], str]:
    files = storage_files(environment, rules, uid=os.geteuid())
    main = read(files.main) if files.chosen else read_if_there(files.main)
    pieces = [(files.main, main)] if main is not None else []
    pieces += [(file, read(file)) for file in files.drop_ins()]
    merged: dict[str, Any] = {}
    for file, content in pieces:
        try:
            _merge(merged, parse_toml(content))
        except ValueError as error:
            raise ConfigurationError(f"cannot read {file}: {error}") from error
    return merged, str(pieces[-1][0]) if pieces else "the defaults"


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        known = base.get(key)
        if isinstance(value, dict):
            base[key] = known if isinstance(known, dict) else {}
            _merge(base[key], value)
        elif isinstance(value, list):
            # A list may say of itself that it goes on where the earlier one ends: ["/x", {append = true}].
            appends = any(isinstance(one, dict) and one.get("append") is True for one in value)
            plain = [one for one in value if not isinstance(one, dict)]
            base[key] = [*(known if appends and isinstance(known, list) else []), *plain]
        else:
            base[key] = value


def _table(parent: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{source}: {name} is not a table")
    return table


def _text(table: dict[str, Any], key: str, source: str) -> str:
    value = table.get(key, "")
    if not _is_text(value):
        raise ConfigurationError(f"{source}: {key} is not a text")
    return str(value)


def _list(table: dict[str, Any], key: str, source: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(map(_is_text, value)):
        raise ConfigurationError(f"{source}: {key} is not a list of texts")
    return value


def _is_text(value: object) -> bool:
    # A NUL byte stands in no path, and asking the system for one raises anything but an OSError.
    return isinstance(value, str) and "\0" not in value


def _defaults(environment: Mapping[str, str], *, rootless: bool) -> tuple[str, str]:
    if not rootless:
        return "/var/lib/containers/storage", "/run/containers/storage"
    data = environment.get("XDG_DATA_HOME") or f"{home_folder(environment)}/.local/share"
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return f"{data}/containers/storage", f"{runtime}/containers"


def _expand(path: str, environment: Mapping[str, str]) -> str:
    """Return a path as the tools expand it: every variable, unknown ones as nothing, links followed."""
    if not path:
        return ""
    path = path.replace("$UID", str(os.getuid()))
    path = _VARIABLE.sub(lambda found: environment.get(found[1] or found[2], ""), path)
    try:
        return os.path.realpath(path, strict=True)
    except OSError:
        return os.path.normpath(path)


def _found(root: Path) -> str:
    # The tools take the driver whose folders they find, overlay in a new store.
    return next((driver for driver in _DRIVERS if is_folder(root / f"{driver}-images")), "overlay")


def _driver_options(options: dict[str, Any], driver: str, rules: RuleSet, source: str) -> Iterator[str]:
    table = _table(options, driver, source)
    newer = _NEWER_OPTIONS.get(driver, ())
    for name in _OPTIONS.get(driver, ()) + (newer if rules is RuleSet.NEWER else ()):
        value = table.get(name, "") or (options.get(name, "") if name in _DIRECT else "")
        if name == "force_mask" and isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:o}" if value else ""
        if not isinstance(value, str) or set(",[]") & set(value):
            raise ConfigurationError(f"{source}: storage.options.{driver}.{name} cannot be given to skopeo")
        if value:
            yield f"{driver}.{name}={value}"
    for name in newer if rules is RuleSet.OLDER else ():
        if table.get(name) not in (None, "", "false"):
            raise ConfigurationError(
                f"{source} sets storage.options.{driver}.{name}, which this backend follows with skopeo 1.23 and later"
            )
