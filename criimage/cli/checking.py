"""What `criimage config check` tells: all that is wrong with the settings and the machine, not the first of it."""

from __future__ import annotations

import asyncio
import os
import pwd
from typing import TYPE_CHECKING, Any

import click

from criimage.backend import Examination, Examined, Limited
from criimage.errors import ConfigurationError
from criimage.metrics.page import check_address
from criimage.pairs import look_at_pair
from criimage.pins import never_matching
from criimage.plugins import installed, load, not_installed
from criimage.server.listening.access import access_of
from criimage.server.listening.socket import check_place, hindrance, is_served
from criimage.server.listening.socket_owner import group_of, owner_of, user_of
from criimage.tracing_otlp import fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from criimage.backend import Problem
    from criimage.plugins import Plugin
    from criimage.settings import Layers, Settings

__all__ = ["check_all"]


def check_all(layers: Layers, backends: Sequence[Plugin[Any]]) -> None:
    """Print what is worth knowing and what keeps the backend from working, or that it can work.

    The backend is looked at unless a file could not be read, which may set anything, or its own table is at fault.

    Args:
        layers: all that could be read.
        backends: those that can be loaded.

    Raises:
        ConfigurationError: a line for each file, variable or flag that cannot be read and each key at fault.
        SystemExit: 1, the settings are valid and the backend cannot work.
    """
    faults, rest = layers.faults(backends)
    settings = rest.settings()
    faults += _unknown_tables(rest, settings)
    faults += [rest.told(error) for error in _machine_faults(layers, rest, settings)]
    problems: list[Problem] = []
    notes = list(_notes_on(settings)) if not faults else []
    plugin = _chosen(rest, settings, faults)
    if plugin is not None and not layers.unread and _table(layers, plugin) == _table(rest, plugin):
        runtime = _runtime(rest, settings, plugin, faults)
        found, facts = _found_out(rest, settings, plugin, runtime, faults)
        problems += found
        notes += facts
    for note in notes:
        click.echo(f"note: {note}")
    # What matters most stands where a terminal ends.
    for problem in problems:
        click.echo(f"{settings.backend}: {problem.text}\n  {problem.remedy}")
    if faults:
        raise ConfigurationError("\n".join(faults))
    if problems:
        raise SystemExit(1)
    click.echo(f"ok: {settings.backend} can work here")


def _unknown_tables(layers: Layers, settings: Settings) -> list[str]:
    known = {backend.name for backend in installed()}
    unknown = [name for name in settings.backends if name not in known]
    return [layers.told(ConfigurationError(not_installed(name), ("backends", name))) for name in unknown]


def _machine_faults(layers: Layers, rest: Layers, settings: Settings) -> Iterator[ConfigurationError]:
    """Find what only `serve` would find otherwise: places, addresses, users and groups that are not here."""
    looks: list[Callable[[], object]] = [
        lambda: user_of(settings.socket),
        lambda: group_of(settings.socket),
        lambda: access_of(settings.socket),
    ]
    if layers.merged.get("listen") == rest.merged.get("listen"):
        # Else the default stands in the place of what was meant.
        looks.insert(0, lambda: check_place(settings.listen))
    if settings.metrics.address:
        looks.append(lambda: check_address(settings.metrics.address, running=is_served(settings.listen)))
    for look in looks:
        try:
            look()
        except ConfigurationError as error:
            yield error
    if tracing_fault := fault(settings.tracing):
        yield ConfigurationError(tracing_fault, ("tracing", "endpoint"))


def _notes_on(settings: Settings) -> Iterator[str]:
    reason = hindrance(settings.listen, owner_of(settings.socket))
    if reason:
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            user = str(os.geteuid())
        yield (
            f"as user {user} the socket cannot be made: {reason}\n"
            "  run the service as root, or set listen and [socket] to what this user may make"
        )
    yield from never_matching(settings.pinned_images)


def _chosen(layers: Layers, settings: Settings, faults: list[str]) -> Plugin[Any] | None:
    try:
        return load(settings.backend)
    except ConfigurationError as error:
        faults.append(layers.told(error))
        return None


def _table(layers: Layers, plugin: Plugin[Any]) -> object:
    tables = layers.merged.get("backends")
    return tables.get(plugin.name) if isinstance(tables, dict) else tables


def _runtime(layers: Layers, settings: Settings, plugin: Plugin[Any], faults: list[str]) -> Path | None:
    try:
        return settings.runtime_path(layers.backend_settings(plugin).endpoint if plugin.name == "cri" else "")
    except ConfigurationError as error:
        faults.append(layers.told(error))
        return None


def _found_out(
    layers: Layers, settings: Settings, plugin: Plugin[Any], runtime: Path | None, faults: list[str]
) -> tuple[list[Problem], list[str]]:
    """Return what the backend finds; a key for which it cannot be opened is a fault, and left out."""
    while True:
        try:
            return asyncio.run(_findings(layers, settings, plugin, runtime))
        except ConfigurationError as error:
            faults.append(layers.told(error))
            rest = layers.without(error.setting) if error.setting[:2] == ("backends", plugin.name) else layers
            if rest.merged == layers.merged:
                return [], []
            layers = rest


async def _findings(
    layers: Layers, settings: Settings, plugin: Plugin[Any], runtime: Path | None
) -> tuple[list[Problem], list[str]]:
    """Return what keeps the backend from working, or from fitting the runtime beside it, and what is worth knowing."""
    async with plugin.open(layers.backend_settings(plugin)) as backend:
        problems = list(await backend.check())
        examination = await backend.examine() if isinstance(backend, Examined) else Examination()
        problems += [problem for problem in examination.problems if problem.text not in {one.text for one in problems}]
        limits = await backend.limits() if isinstance(backend, Limited) else ()
        notes = list(examination.facts)
        notes += [f"{limit.text}\n  {limit.remedy}" for limit in limits]
        if problems or runtime is None:
            return problems, notes
        found, facts = await look_at_pair(backend, plugin.name, runtime, settings.runtime.sandbox_image)
        return found, [*notes, *facts]
