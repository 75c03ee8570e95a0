"""`criimage config` and `criimage backends`: what is set, what could be, and whether it would work."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any, get_args, get_origin

import click
from pydantic import BaseModel

from criimage.cli.checking import check_all
from criimage.cli.connection import form_option
from criimage.cli.options import layers_from, settings_options
from criimage.errors import ConfigurationError
from criimage.foreign_text import readable
from criimage.plugins import Unusable, examined, installed, load
from criimage.settings import Settings, collect_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.plugins import Plugin

__all__ = ["backends", "config", "example_settings"]

_REASON_LIMIT = 300
_COMMENT_WIDTH = 98
"""Columns of a comment in a file of settings, which editors and pagers would break anywhere."""


@click.group()
def config() -> None:
    """Print or check settings."""


@config.command()
def default() -> None:
    """Print every key with its default, explained, each line a comment."""
    click.echo("\n".join(example_settings()))


def example_settings() -> Iterator[str]:
    """Yield the lines of a settings file that sets nothing: every key with its default, explained and commented out.

    Table headers are comments too, so that whatever is appended to such a file cannot meet a table that is there, and
    an upgrade may change a default.
    """
    yield "# Settings of criimage. Drop-ins lie in conf.d beside this file; variables CRIIMAGE_* (nested by"
    yield "# __) win over both, and flags over those."
    yield "# To change a key take the # away from it and from the header of its table, or write both below."
    yield ""
    models: list[tuple[str, type[BaseModel]]] = [("", Settings)]
    models += [(f"backends.{plugin.name}", plugin.settings_model) for plugin in _working_plugins()]
    for name, model in models:
        for line in _tables(model, name, examples=True):
            # What explains has a space behind the #, what can be made live has none.
            yield line if not line or line.startswith("#") else f"#{line}"


@config.command()
@settings_options
def dump(**options: Any) -> None:  # noqa: ANN401
    """Print the settings in force, secrets masked, as TOML."""
    layers = layers_from(**options)()
    settings = layers.settings()
    with layers.placing():
        plugin = load(settings.backend)
    click.echo("\n".join(_tables(type(settings), "", settings)))
    click.echo("\n".join(_tables(plugin.settings_model, f"backends.{plugin.name}", layers.backend_settings(plugin))))


@config.command()
@settings_options
def check(**options: Any) -> None:  # noqa: ANN401
    """Tell whether the settings are valid and the backend can work here.

    The settings of all installed backends are validated; the chosen one tries out what it needs.
    """
    layers = layers_from(**options, read=collect_layers)()
    check_all(layers, list(_working_plugins()))


@click.command()
@form_option
def backends(form: str) -> None:
    """List the installed backends, and what is wrong with those that cannot be used."""
    rows = []
    for backend in installed():
        found = examined(backend.name)
        fault = found if isinstance(found, Unusable) else None
        rows.append(
            {
                "name": backend.name,
                "distribution": backend.distribution,
                "version": backend.version,
                "error": readable(fault.reason, _REASON_LIMIT) if fault else "",
                "remedy": fault.remedy if fault else "",
            }
        )
    if form == "json":
        click.echo(json.dumps({"backends": rows}, indent=2))
        return
    for row in rows:
        click.echo("   ".join((f"{row['name']:<20}", row["distribution"], row["version"], row["error"])).rstrip())
        if row["remedy"]:
            click.echo(f"  {row['remedy']}")


def _working_plugins() -> Iterator[Plugin[Any]]:
    for name in sorted({backend.name for backend in installed()}):
        try:
            yield load(name)
        except ConfigurationError as error:
            click.echo(f"# {error.text}", err=True)


def _tables(
    model: type[BaseModel], name: str, values: BaseModel | None = None, *, examples: bool = False
) -> Iterator[str]:
    """Yield TOML for a model: its keys, then its tables; on request an example of those with free names."""
    tables: list[tuple[str, type[BaseModel]]] = []
    named: list[tuple[str, str, type[BaseModel]]] = []
    if name:
        yield ""
        yield f"[{name}]"
    # As JSON, because that is how a model masks its secrets and writes lengths of time.
    shown = (values if values is not None else model.model_construct()).model_dump(mode="json", warnings=False)
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            tables.append((key, kind))
            continue
        value = shown.get(key)
        if isinstance(value, dict) and not name:
            continue  # the backends' tables are printed by their own models
        entry = _entry_model(kind)
        if examples and entry is not None:
            named.append((f'{name}.{key}."HOST"', field.description or "", entry))
            continue
        yield from _comment(field.description or "")
        yield f"{key} = {_toml(value)}" if value is not None else f"# {key} ="
    for key, kind in tables:
        below = getattr(values, key) if values is not None else None
        yield from _tables(kind, f"{name}.{key}" if name else key, below, examples=examples)
    for title, description, entry in named:
        yield ""
        yield from _comment(description)
        yield f"[{title}]"
        for key, field in entry.model_fields.items():
            yield from _comment(field.description or "")
            # Unset means as in the table above: its default is the example.
            yield f"{key} = {_toml(shown[key] if key in shown else shown[f'{key}_per_registry'])}"


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from (f"# {part}" for part in textwrap.wrap(line, _COMMENT_WIDTH, break_on_hyphens=False))


def _entry_model(kind: object) -> type[BaseModel] | None:
    """Return the model of the entries of a table with free names, or None for any other kind of key."""
    if get_origin(kind) is not dict:
        return None
    entry = get_args(kind)[1]
    return entry if isinstance(entry, type) and issubclass(entry, BaseModel) else None


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        known = {key: item for key, item in value.items() if item is not None}  # TOML has no null
        return "{" + ", ".join(f"{_quoted(key)} = {_toml(item)}" for key, item in known.items()) + "}"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for surrogate pairs and DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
