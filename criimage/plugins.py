"""Finds installed backends by entry point and opens the chosen one.

A distribution offers a backend with an entry point in the group `criimage.backends`, whose name is what users write as
`backend = "…"` and which leads to a `Plugin`:

    [project.entry-points."criimage.backends"]
    mystore = "criimage_mystore:plugin"

Listing imports nothing, so that a broken plugin disturbs nobody who did not choose it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from criimage.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from importlib.metadata import Distribution, PackageMetadata

    from pydantic import BaseModel

    from criimage.backend import Backend

__all__ = [
    "CONTRACT",
    "GROUP",
    "InstalledBackend",
    "Plugin",
    "Unusable",
    "examined",
    "how_to_install",
    "installed",
    "load",
    "not_installed",
]

GROUP = "criimage.backends"
"""Of the entry points that are backends."""

CONTRACT = 1
"""Version of `criimage.backend`; a plugin states the one it was written for, and only the same one is opened."""

SettingsT = TypeVar("SettingsT", bound="BaseModel")


@dataclass(frozen=True, slots=True)
class Plugin(Generic[SettingsT]):
    """What an entry point leads to. Making one imports nothing heavy: `open` does.

    Attributes:
        name: as in the entry point.
        contract: the value of CONTRACT the backend was written for.
        settings_model: a pydantic model that forbids extra keys; the table `[backends.NAME]` is read into it.
        open: takes the settings, returns an async context manager that yields the backend. Raises
            ConfigurationError on entering if the backend can never work with them; a daemon that is down is not such a
            case.
        extra: the extra of the distribution that brings what `open` imports beyond the distribution's own
            requirements; empty if there is none.
        extra_modules: the top-level modules of that extra; without one of them the backend cannot be opened.
    """

    name: str
    contract: int
    settings_model: type[SettingsT]
    open: Callable[[SettingsT], AbstractAsyncContextManager[Backend]]
    extra: str = ""
    extra_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstalledBackend:
    """An entry point that was found; nothing of it has been imported.

    Attributes:
        name: what users write as `backend`.
        distribution: name of the distribution that brings it.
        version: that distribution's version.
        entry_point: where it leads.
    """

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a backend cannot be used.

    Attributes:
        reason: a few words, without the backend's name.
        remedy: what an operator can do about it.
        text: the whole sentence, with the distribution that brings it.
        cause: what its import raised, if that is the reason.
    """

    reason: str
    remedy: str
    text: str
    cause: BaseException | None = None


def installed() -> tuple[InstalledBackend, ...]:
    """Return every installed backend, sorted by name; two distributions may claim the same one."""
    return _installed(entry_points(group=GROUP))


def _installed(found: Iterable[EntryPoint]) -> tuple[InstalledBackend, ...]:
    # To tell whose one is takes a reading of that distribution's metadata, its whole description among it.
    owners: dict[Distribution | None, tuple[str, str]] = {}
    backends = set()
    for entry_point in found:
        if entry_point.dist not in owners:
            owners[entry_point.dist] = _owner(entry_point.dist)
        # A source checkout on sys.path can show one distribution twice; that is no conflict.
        backends.add(InstalledBackend(entry_point.name, *owners[entry_point.dist], entry_point))
    return tuple(sorted(backends, key=lambda backend: (backend.name, backend.distribution)))


def _owner(distribution: Distribution | None) -> tuple[str, str]:
    metadata = None if distribution is None else distribution.metadata
    return _fact(metadata, "Name"), _fact(metadata, "Version")


def _fact(metadata: PackageMetadata | None, key: str) -> str:
    # A distribution that was removed by half may have none left.
    if metadata is None or key not in metadata:
        return "unknown"
    return metadata[key]


def load(name: str) -> Plugin[Any]:
    """Import the backend called `name`.

    Raises:
        ConfigurationError: not installed (the text lists what is), claimed by two distributions, cannot be imported,
            is no plugin, calls itself otherwise, or was written for another contract.
    """
    found = _imported(name)
    if isinstance(found, Unusable):
        raise ConfigurationError(found.text, ("backend",)) from found.cause
    return found


def not_installed(name: str) -> str:
    """Return what an operator is told who has named a backend that is not installed."""
    import difflib  # for a wrong name only

    names = sorted({backend.name for backend in installed()})
    meant = "".join(f"; did you mean {close}?" for close in difflib.get_close_matches(name, names, n=1))
    return f'no backend "{name}" is installed; installed: {", ".join(names) or "none"}{meant}'


def examined(name: str) -> Plugin[Any] | Unusable:
    """Import the backend called `name` and look for the modules of its extra, without importing those.

    Returns:
        the plugin if it can be opened, as far as that shows without settings; else why not.
    """
    found = _imported(name)
    if isinstance(found, Unusable):
        return found
    missing = [module for module in found.extra_modules if not _is_there(module)]
    if not missing:
        return found
    owner = next(backend.distribution for backend in installed() if backend.name == name)
    remedy = how_to_install(owner, found.extra)
    return Unusable(
        f"{' and '.join(missing)} not installed",
        remedy,
        f'backend "{name}" needs {" and ".join(missing)}: {remedy}',
    )


def how_to_install(distribution: str, extra: str) -> str:
    """Return what an operator is told who lacks an extra, wherever the distribution came from."""
    return f"install {distribution}[{extra}]; in a clone of it: pip install '.[{extra}]'"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _imported(name: str) -> Plugin[Any] | Unusable:
    claims = _installed(entry_points(group=GROUP, name=name))
    if not claims:
        text = not_installed(name)
        return Unusable("not installed", "install the distribution that brings it", text)
    if len(claims) > 1:
        owners = " and ".join(f"{claim.distribution} {claim.version}" for claim in claims)
        text = f'backend "{name}" is claimed by {owners}; uninstall one of them'
        return Unusable(f"claimed by {owners}", "uninstall one of them", text)
    claim = claims[0]
    origin = f'backend "{name}" of {claim.distribution} {claim.version}'
    ask = f"install a {claim.distribution} for this criimage, or ask its authors"
    try:
        plugin = claim.entry_point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is handed on
        reason = f"cannot be imported: {type(error).__name__}: {error}"
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        remedy = f"install the module {missing}, or uninstall {claim.distribution}" if missing else ask
        return Unusable(reason, remedy, f"{origin} {reason}", error)
    if not isinstance(plugin, Plugin):
        reason = f"is no criimage.plugins.Plugin but {type(plugin).__name__}"
    elif plugin.contract != CONTRACT:
        reason = f"was written for contract {plugin.contract}, this criimage has {CONTRACT}"
    elif plugin.name != name:
        reason = f'calls itself "{plugin.name}", so its settings would not be found'
    else:
        return plugin
    return Unusable(reason, ask, f"{origin} {reason}")
