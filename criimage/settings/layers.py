"""Where settings come from: files, variables and flags, merged key by key; what is wrong is told with its place."""

from __future__ import annotations

import codecs
import copy
import os
import pathlib
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
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
    from collections.abc import Callable, Iterable, Iterator

    from pydantic import BaseModel

    from criimage.plugins import InstalledBackend, Plugin

__all__ = ["DEFAULT_CONFIG", "Layers", "collect_layers", "read_layers", "read_value"]

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
        unread: a line for each file, variable or flag that could not be read, see `collect_layers`.
    """

    merged: Table
    origins: Mapping[Path, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def settings(self) -> Settings:
        """Validate all but the backends' tables.

        Raises:
            ConfigurationError: naming key, place and fault.
        """
        try:
            return Settings.model_validate(self.merged)
        except ValidationError:
            raise ConfigurationError("\n".join(self.faults()[0])) from None

    def backend_settings(self, plugin: Plugin[Any]) -> Any:  # noqa: ANN401 - of the plugin's own model
        """Validate the table `[backends.NAME]` of one backend.

        Raises:
            ConfigurationError: naming key, place and fault.
        """
        table = self.settings().backends.get(plugin.name, {})
        try:
            return plugin.settings_model.model_validate(table)
        except ValidationError as error:
            found = self._explained(error, table, ("backends", plugin.name), plugin)
            raise ConfigurationError(self._lines(found)) from None

    def faults(self, backends: Iterable[Plugin[Any]] = ()) -> tuple[list[str], Layers]:
        """Find all that is wrong, instead of the first.

        Args:
            backends: whose tables are looked at too.

        Returns:
            a line for each file, variable or flag that could not be read and each key at fault, and these layers
            without such keys.
        """
        found, rest = self._faults_in(self, Settings)
        for plugin in backends:
            of_backend, rest = self._faults_in(rest, plugin.settings_model, plugin)
            found += of_backend
        if self.unread:
            # What has to be set may stand where nobody could read it.
            found = [fault for fault in found if self._is_set(fault.key)]
        return [*self.unread, *map(self._line, found)], rest

    def _faults_in(
        self, rest: Layers, model: type[BaseModel], plugin: Plugin[Any] | None = None
    ) -> tuple[list[Fault], Layers]:
        """Return what is wrong with the whole of some layers or with one backend's table, and them without that."""
        found: list[Fault] = []
        while True:
            above: Path = ("backends", plugin.name) if plugin is not None else ()
            table: Any = rest.merged
            for part in above:
                table = table.get(part, {}) if isinstance(table, dict) else {}
            try:
                model.model_validate(table)
            except ValidationError as error:
                faults = self._explained(error, table, above, plugin)
            else:
                return found, rest
            found += faults
            before, rest = rest, rest.without(*(fault.key for fault in faults))
            # A table is looked at as a whole only where its keys are right.
            if rest.merged == before.merged:
                return found, rest

    def without(self, *keys: Path) -> Layers:
        """Return these layers as if nobody had set these keys."""
        merged = copy.deepcopy(self.merged)
        for key in keys:
            table: Any = merged
            for part in key[:-1]:
                table = table.get(part) if isinstance(table, dict) else None
            if isinstance(table, dict):
                table.pop(key[-1], None)
        return replace(self, merged=merged)

    def told(self, error: ConfigurationError) -> str:
        """Return an error's text, with key and place if it is about a setting and does not name them itself."""
        if not error.setting:
            return error.text
        return self._lines(Fault(error.setting, line) for line in error.text.splitlines())

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Add key and place to a ConfigurationError about a setting, which whoever looks at its value cannot know."""
        try:
            yield
        except ConfigurationError as error:
            if not error.setting:
                raise
            raise ConfigurationError(self.told(error)) from error

    def _explained(
        self, error: ValidationError, table: Table, above: Path, plugin: Plugin[Any] | None = None
    ) -> list[Fault]:
        known: dict[str, type[BaseModel] | None] = {one.name: _own_model(one) for one in plugins.installed()}
        if plugin is not None:
            known[plugin.name] = plugin.settings_model
        return list(faults_of(error, table, Settings, known, above))

    def _lines(self, faults: Iterable[Fault]) -> str:
        return "\n".join(map(self._line, faults))

    def _is_set(self, key: Path) -> bool:
        table: Any = self.merged
        for part in key:
            if not isinstance(table, dict) or part not in table:
                return False
            table = table[part]
        return True

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
        ConfigurationError: a file that cannot be read or parsed, or a flag or variable that is no text; the text tells
            what else is wrong as well.
    """
    layers = collect_layers(config, overrides, environment)
    if layers.unread:
        raise ConfigurationError("\n".join(layers.faults()[0]))
    return layers


def collect_layers(
    config: pathlib.Path | None = None,
    overrides: Iterable[tuple[str, Any]] = (),
    environment: Mapping[str, str] = os.environ,
) -> Layers:
    """Read what can be read of all layers, see `read_layers`; the rest is told in `unread`."""
    merged: Table = {}
    origins: dict[Path, str] = {}
    contents: dict[str, str] = {}
    unread: list[str] = []

    def add(origin: str, read_one: Callable[[], Table]) -> None:
        try:
            _merge(merged, read_one(), origin, origins)
        except ConfigurationError as error:
            unread.append(error.text)

    def from_file(path: pathlib.Path) -> Table:
        table, contents[str(path)] = _read(path)
        return table

    for path in _files(config, unread):
        add(str(path), partial(from_file, path))
    for name, text in sorted(environment.items()):
        if name.startswith(_ENVIRONMENT_PREFIX) and name not in _NOT_SETTINGS:
            add(f"{_VARIABLE}{name}", partial(_of_variable, name, text))
    for key, value in overrides:
        add(f"{_FLAG}{key}", partial(_of_flag, key, value))
    return Layers(merged, origins, contents, tuple(unread))


def _of_variable(name: str, text: str) -> Table:
    _check_text([name, text], f"{_VARIABLE}{name}")
    return _nested(_keys(name.removeprefix(_ENVIRONMENT_PREFIX)), read_value(text))


def _of_flag(key: str, value: Any) -> Table:  # noqa: ANN401 - any TOML value
    _check_text([key, value], f"{_FLAG}{key}")
    return _nested(_parts(key), value)


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


def _files(config: pathlib.Path | None, unread: list[str]) -> list[pathlib.Path]:
    main = config or DEFAULT_CONFIG
    found = []
    try:
        found += [main] if config is not None or is_there(main) else []
    except ConfigurationError as error:
        unread.append(error.text)
    try:
        found += files_in(main.parent / "conf.d", ".toml")
    except ConfigurationError as error:
        unread.append(error.text)
    return found


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
