"""Where the store is: our settings, else the environment, else storage.conf, else what the tools assume (L13, X1)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.errors import ConfigurationError
from criimage.files import is_there, read_if_there
from criimage.foreign_toml import parse_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage_containers_storage.settings import Settings

__all__ = ["Layout", "locate"]

_SYSTEM_FILES = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
_DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
# These carry commas in practice, which the store's name cannot (T2), and matter to mounting only, which no pull does.
_MOUNT_ONLY = frozenset({"mountopt"})


@dataclass(frozen=True, slots=True)
class Layout:
    """One store on disk.

    Attributes:
        root: holds `<driver>`, `<driver>-images`, `<driver>-layers`, `<driver>-containers`.
        run_root: state that need not survive a restart.
        driver: name of the storage driver.
        options: driver options, `name=value`.
        additional: roots of read-only stores of the same driver, in order (L12).
    """

    root: Path
    run_root: Path
    driver: str
    options: tuple[str, ...] = ()
    additional: tuple[Path, ...] = ()

    @property
    def store_options(self) -> list[str]:
        """All options of the driver, the additional stores among them."""
        return [*self.options, *(f"{self.driver}.imagestore={path}" for path in self.additional)]

    @property
    def spec(self) -> str:
        """The store as skopeo names it; complete, so that no storage.conf is looked at (T2)."""
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
        return self.root / f"{self.driver}-images"


def locate(settings: Settings, environment: Mapping[str, str]) -> Layout:
    """Find the store.

    Blocks on a few small files.

    Args:
        settings: what is set here wins.
        environment: CONTAINERS_STORAGE_CONF, STORAGE_DRIVER, STORAGE_OPTS, HOME, XDG_*.

    Raises:
        ConfigurationError: storage.conf cannot be read, or names a path that the tools cannot be given.
    """
    conf, source = _read_conf(environment)
    rootless = os.geteuid() != 0
    storage = _table(conf, "storage", source)
    options = _table(storage, "options", source)
    if storage.get("imagestore") and not settings.root:
        raise ConfigurationError(f"{source} sets imagestore, which this backend cannot follow; set root to one store")
    default_root, default_run = _defaults(environment, rootless=rootless)
    rootless_path = str(storage.get("rootless_storage_path", "")) if rootless else ""
    # The machine's own file tells users everything but where: those places are root's.
    theirs = rootless and source in _SYSTEM_FILES
    graph_root, state = ("", "") if theirs else (str(storage.get(key, "")) for key in ("graphroot", "runroot"))
    root = Path(settings.root or _expand(rootless_path or graph_root, environment) or default_root)
    run_root = Path(settings.run_root or _expand(state, environment) or default_run)
    driver = settings.driver or environment.get("STORAGE_DRIVER", "") or str(storage.get("driver", "")) or _found(root)
    named = [option for option in environment.get("STORAGE_OPTS", "").split(",") if option]
    given = list(settings.options) or named or list(_driver_options(options, driver))
    additional = [Path(_expand(str(path), environment)) for path in options.get("additionalimagestores", ()) if path]
    for prefix in (f"{driver}.imagestore=", "imagestore="):
        additional += [Path(option.removeprefix(prefix)) for option in given if option.startswith(prefix)]
        given = [option for option in given if not option.startswith(prefix)]
    for path in (root, run_root, *additional):
        if not path.is_absolute() or set("[]@+:,=") & set(str(path)):
            raise ConfigurationError(f"the storage path {path} of {source} cannot be given to skopeo; set another one")
    return Layout(root, run_root, driver, tuple(given), tuple(dict.fromkeys(additional)))


def _read_conf(environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    chosen = environment.get("CONTAINERS_STORAGE_CONF", "")
    files = [chosen] if chosen else [*_user_files(environment), *_SYSTEM_FILES]
    for file in files:
        content = read_if_there(Path(file))
        if content is None:
            continue
        try:
            return parse_toml(content), file
        except ValueError as error:
            raise ConfigurationError(f"cannot read {file}: {error}") from error
    return {}, "the defaults"


def _user_files(environment: Mapping[str, str]) -> Iterator[str]:
    # Root's own home is not looked at: the tools do so for rootless users only.
    if os.geteuid() != 0:
        home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
        yield f"{home}/containers/storage.conf"


def _table(parent: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{source}: {name} is not a table")
    return table


def _defaults(environment: Mapping[str, str], *, rootless: bool) -> tuple[str, str]:
    if not rootless:
        return "/var/lib/containers/storage", "/run/containers/storage"
    data = environment.get("XDG_DATA_HOME") or f"{environment.get('HOME', '/')}/.local/share"
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return f"{data}/containers/storage", f"{runtime}/containers"


def _expand(path: str, environment: Mapping[str, str]) -> str:
    return path.replace("$HOME", environment.get("HOME", "")).replace("$UID", str(os.getuid()))


def _found(root: Path) -> str:
    # The tools take the driver whose folders they find, overlay in a new store.
    return next((driver for driver in _DRIVERS if is_there(root / f"{driver}-images")), "overlay")


def _driver_options(options: dict[str, Any], driver: str) -> Iterator[str]:
    table = options.get(driver, {})
    for name, value in table.items() if isinstance(table, dict) else ():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if name not in _MOUNT_ONLY and isinstance(value, str | bool | int) and text and not set(",[]") & set(text):
            yield f"{driver}.{name}={text}"
