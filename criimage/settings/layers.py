"""Where settings come from: files, variables and flags, merged key by key; what is wrong is told with its place."""

from __future__ import annotations

import codecs
import os
import pathlib
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from criimage import plugins
from criimage.errors import ConfigurationError
from criimage.files import files_in, is_there, read
from criimage.foreign_text import keep_start
from criimage.foreign_toml import key_lines, parse_toml
from criimage.settings.faults import Fault, dotted, faults_of
from criimage.settings.tables import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

    from criimage.plugins import InstalledBackend, Plugin

__all__ = ["DEFAULT_CONFIG", "Layers", "read_layers", "read_value"]

DEFAULT_CONFIG = pathlib.Path("/etc/criimage/config.toml")
_ENVIRONMENT_PREFIX = "CRIIMAGE_"
_VARIABLE = "environment variable "
_FLAG = "flag for "
_NOT_SETTINGS = frozenset({"CRIIMAGE_ENDPOINT", "CRIIMAGE_CONFIG"})
_DEPTH_LIMIT = 32
_SHOWN = 200

Table = dict[str, Any]
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """Settings as read, and where each key came from.

    Attributes:
        merged: all layers, deep-merged.
        origins: path of a key to the file, variable or flag that set it last.
        contents: what stands in each file among them.
    """

    merged: Table
    origins: Mapping[Path, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> Settings:
        """Validate all but the backends' tables.

        Raises:
            ConfigurationError: naming key, place and fault.
        """
        try:
            return Settings.model_validate(self.merged)
        except ValidationError as error:
            raise self._explained(error, self.merged, ()) from None

    def backend_settings(self, plugin: Plugin[Any]) -> Any:  # noqa: ANN401 - of the plugin's own model
        """Validate the table `[backends.NAME]` of one backend.

        Raises:
            ConfigurationError: naming key, place and fault.
        """
        table = self.settings().backends.get(plugin.name, {})
        try:
            return plugin.settings_model.model_validate(table)
        except ValidationError as error:
            raise self._explained(error, table, ("backends", plugin.name), plugin) from None

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Add key and place to a ConfigurationError about a setting, which whoever looks at its value cannot know."""
        try:
            yield
        except ConfigurationError as error:
            if not error.setting:
                raise
            raise ConfigurationError(self._line(Fault(error.setting, error.text))) from error

    def _explained(
        self, error: ValidationError, table: Table, above: Path, plugin: Plugin[Any] | None = None
    ) -> ConfigurationError:
        known: dict[str, type[BaseModel] | None] = {one.name: _own_model(one) for one in plugins.installed()}
        if plugin is not None:
            known[plugin.name] = plugin.settings_model
        lines = [self._line(fault) for fault in faults_of(error, table, Settings, known, above)]
        return ConfigurationError("\n".join(lines))

    def _line(self, fault: Fault) -> str:
        key = fault.key
        while key not in self.origins and key:
            key = key[:-1]
        origin = self.origins.get(key, "")
        place = origin
        if origin in self.contents and (line := key_lines(self.contents[origin]).get(key)):
            place = f"{origin}, line {line}"
        name = dotted(fault.key)
        told = ": ".join(part for part in (place, "" if origin == f"{_FLAG}{name}" else name, fault.text) if part)
        return f"{told}; {_hint(fault, origin)}" if fault.meant else told


def _own_model(backend: InstalledBackend) -> type[BaseModel] | None:
    # Others' code is not run only because a key was misspelt.
    if backend.distribution != "criimage":
        return None
    try:
        return plugins.load(backend.name).settings_model
    except ConfigurationError:
        return None  # broken, which is not what is told here


def _hint(fault: Fault, origin: str) -> str:
    """Return what may have been meant, as it is written where the key was set."""
    key = dotted(fault.meant)
    if origin.startswith(_VARIABLE):
        key = _ENVIRONMENT_PREFIX + "__".join(part.upper().replace("-", "_") for part in fault.meant)
        return f"{fault.purpose} set {key}={fault.example}" if fault.purpose else f"did you mean {key}?"
    if origin.startswith(_FLAG):
        return f"{fault.purpose} give --set {key}={fault.example}" if fault.purpose else f"did you mean {key}?"
    if fault.purpose:
        return f'{fault.purpose} write {key} = "{fault.example}" above the first table'
    if len(fault.meant) == 1 < len(fault.key):
        return f"{key} stands above the first table"
    return f"did you mean {fault.meant[-1] if fault.meant[:-1] == fault.key[:-1] else key}?"


def read_layers(
    config: pathlib.Path | None = None,
    overrides: Iterable[tuple[str, Any]] = (),
    environment: Mapping[str, str] = os.environ,
) -> Layers:
    """Read all layers of settings.

    Args:
        config: the file given by the user, which must exist; None for the default, which need not.
        overrides: dotted key and value of each flag.
        environment: where CRIIMAGE_ variables are looked for.

    Raises:
        ConfigurationError: a file that cannot be read or parsed, or a flag or variable that is no text.
    """
    merged: Table = {}
    origins: dict[Path, str] = {}
    contents: dict[str, str] = {}
    faults: list[str] = []
    for path in _files(config):
        try:
            table, contents[str(path)] = _read(path)
            _merge(merged, table, str(path), origins)
        except ConfigurationError as error:
            faults.append(error.text)
    if faults:
        raise ConfigurationError("\n".join(faults))
    for name, text in sorted(environment.items()):
        if name.startswith(_ENVIRONMENT_PREFIX) and name not in _NOT_SETTINGS:
            _check_text([name, text], f"{_VARIABLE}{name}")
            keys = _keys(name.removeprefix(_ENVIRONMENT_PREFIX))
            _merge(merged, _nested(keys, read_value(text)), f"{_VARIABLE}{name}", origins)
    for key, value in overrides:
        _check_text([key, value], f"{_FLAG}{key}")
        _merge(merged, _nested(_parts(key), value), f"{_FLAG}{key}", origins)
    return Layers(merged, origins, contents)


def _check_text(value: Any, origin: str) -> None:  # noqa: ANN401
    """Refuse what is no text: bytes that are no UTF-8 come as lone surrogates, which nothing behind this can encode."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for one in value:
            _check_text(one, origin)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(f"{keep_start(ascii(origin)[1:-1], _SHOWN)}: its bytes are no UTF-8") from None


def read_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    """Read text from a flag or a variable as a TOML value; what is none is the text itself."""
    try:
        found = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return found["value"] if found.keys() == {"value"} else text


def _parts(key: str) -> list[str]:
    """Return the parts of a dotted key; one that has dots itself stands in quotes, as in a file."""
    parts: list[str] = []
    try:
        found: Any = parse_toml(f"{key} = 0")
        while isinstance(found, dict):
            ((part, found),) = found.items()
            parts.append(part)
    except ValueError:
        return key.split(".")
    return parts


def _keys(variable: str) -> list[str]:
    keys = variable.lower().split("__")
    if keys[0] == "backends" and len(keys) > 1:
        # A backend's name may have a hyphen, which no variable's name can have; settings' keys have none.
        spellings = {backend.name.replace("-", "_"): backend.name for backend in plugins.installed()}
        keys[1] = spellings.get(keys[1], keys[1])
    return keys


def _files(config: pathlib.Path | None) -> list[pathlib.Path]:
    main = config or DEFAULT_CONFIG
    drop_ins = main.parent / "conf.d"
    found = [main] if config is not None or is_there(main) else []
    return [*found, *files_in(drop_ins, ".toml")]


def _read(path: pathlib.Path) -> tuple[Table, str]:
    # `--config <(...)` names a pipe.
    content = read(path, pipe=True).removeprefix(codecs.BOM_UTF8)
    try:
        return parse_toml(content), content.decode()
    except ValueError as error:
        said = str(error)
        raise ConfigurationError(f"{path}{', ' if said.startswith('line ') else ': '}{said}") from error


def _nested(keys: list[str], value: Any) -> Table:  # noqa: ANN401
    if len(keys) > _DEPTH_LIMIT:
        raise ConfigurationError(f"{keep_start('.'.join(keys), _DEPTH_LIMIT)}: no key has so many parts")
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _merge(into: Table, layer: Table, origin: str, origins: dict[Path, str], above: Path = ()) -> None:
    for key, value in layer.items():
        path = (*above, key)
        if isinstance(value, Mapping) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), dict(value), origin, origins, path)
        else:
            into[key] = value
        origins[path] = origin
