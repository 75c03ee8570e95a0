"""Settings that are read again while the service runs: what changed, what counts at once, and what needs a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from criimage import logs, plugins
from criimage.errors import ConfigurationError
from criimage.rounds import Rounds
from criimage.server import systemd
from criimage.server.listening.access import access_of
from criimage.settings.faults import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from criimage.pins import Pins
    from criimage.server.app import Assembly
    from criimage.server.listening.access import Access
    from criimage.settings import Layers, Settings

__all__ = ["Reload", "differences", "in_force"]

_log = structlog.get_logger(__name__)

_LIVE = ("log.level", "pinned_images", "pulls.", "runtime.sandbox_image", "socket.allowed_users")
"""Keys that count from the reload on, and beginnings of such keys; every other one needs a restart."""

READ_SECONDS = 30.0
"""How long the settings may take to be read; systemd waits for the end of a reload."""

_NAMED = 20
"""Keys that the log line names at most."""


def in_force(settings: Settings, backend: str, backend_settings: Any) -> dict[str, Any]:  # noqa: ANN401 - its own model
    """Return settings as clients and reloads see them: plain values, secrets masked.

    Args:
        settings: the core's.
        backend: name of the chosen one.
        backend_settings: its own.
    """
    # pydantic's SecretStr dumps as asterisks in JSON mode, so a backend's secrets stay its own.
    shown = settings.model_dump(mode="json", exclude={"backends"})
    return {**shown, "backends": {backend: backend_settings.model_dump(mode="json")}}


def _in_force_after(started_with: Mapping[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in force after a reload: what counts at once as it was read, all else as at the start."""
    found = dict(started_with)
    for key in _LIVE:
        table, _, name = key.partition(".")
        found[table] = {**found[table], name: read[table][name]} if name else read[table]
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted keys whose values differ, as TOML has them, sorted, each with its value afterwards or None.

    A table that was empty, or is, differs by what is in the other one: only those keys are told.
    """
    old, new = dict(_flat(before)), dict(_flat(after))
    differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    above = {key[:length] for key in differing for length in range(1, len(key))}
    return dict(sorted((dotted(key), new.get(key)) for key in differing - above))


def _flat(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        # An empty table is a value: it is there or not.
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*above, key))
        else:
            yield (*above, key), value


class Reload:
    """Takes settings over at SIGHUP.

    Args:
        assembly: the service.
        reread: reads the settings again.
        started_with: the settings in force now.
    """

    def __init__(self, assembly: Assembly, reread: Callable[[], Layers], started_with: dict[str, Any]) -> None:
        self._assembly, self._reread = assembly, reread
        self._started_with = self._last = started_with
        # All of it off the loop: a list of pins may be long. Files that hang keep one thread, however often one tries.
        self._readings = Rounds(lambda: asyncio.to_thread(self._read), "read the settings again")

    async def when(self, hung_up: asyncio.Event) -> None:
        """Reload each time the event is set, for ever."""
        while True:
            await hung_up.wait()
            hung_up.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the settings again, use what can change, and say what did and what waits for a restart.

        What is not valid is told, and the old settings stay.
        """
        systemd.reloading()
        try:
            async with asyncio.timeout(READ_SECONDS):
                settings, shown, pins, access = await self._readings.answer()
            policy = settings.pulls.policy()
        except ConfigurationError as error:
            _not_reloaded(error.text)
            return
        except TimeoutError:
            _not_reloaded(f"they could not be read within {READ_SECONDS:.0f} s; does a file system hang?")
            return
        except BaseException:
            # systemd waits for the end of a reload, whatever ends it.
            _not_reloaded("a fault in the image service, the log says more")
            raise
        logs.set_level(settings.log.level)
        self._assembly.pinning.use(settings, pins)
        self._assembly.server.let_in(access)
        self._assembly.pulls.set_policy(policy)
        self._assembly.removals.set_timeout(settings.pulls.remove_timeout)
        self._tell(shown)

    def _read(self) -> tuple[Settings, dict[str, Any], Pins, Access]:
        layers = self._reread()
        with layers.placing():
            settings = layers.settings()
            backend_settings = layers.backend_settings(plugins.load(settings.backend))
            shown = in_force(settings, settings.backend, backend_settings)
            return settings, shown, self._assembly.pinning.pins(settings), access_of(settings.socket)

    def _tell(self, shown: dict[str, Any]) -> None:
        changed = [key for key in differences(self._last, shown) if key.startswith(_LIVE)]
        waiting = [key for key in differences(self._started_with, shown) if not key.startswith(_LIVE)]
        self._last = shown
        self._assembly.show(_in_force_after(self._started_with, shown))
        status = "settings reloaded" + (f"; a restart is needed for {', '.join(waiting[:3])}" if waiting else "")
        systemd.reloaded(status)
        level = _log.warning if waiting else _log.info
        level("settings reloaded", changed=changed[:_NAMED], needs_restart=waiting[:_NAMED])


def _not_reloaded(text: str) -> None:
    _log.error("settings not reloaded: the old ones stay", error=text)
    systemd.reloaded(f"settings not reloaded: {' '.join(text.split())}")
