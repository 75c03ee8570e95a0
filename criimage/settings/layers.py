"""Where settings come from: files, variables and flags, merged key by key; what is wrong is told with its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from criimage.errors import ConfigurationError
from criimage.files import files_in, is_there, read
from criimage.foreign_text import keep_start
from criimage.foreign_toml import parse_toml
from criimage.plugins import installed
from criimage.settings.tables import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from criimage.plugins import Plugin

__all__ = ["DEFAULT_CONFIG", "Layers", "read_layers", "read_value"]

DEFAULT_CONFIG = Path("/etc/criimage/config.toml")
_ENVIRONMENT_PREFIX = "CRIIMAGE_"
_NOT_SETTINGS = frozenset({"CRIIMAGE_ENDPOINT", "CRIIMAGE_CONFIG"})
_DEPTH_LIMIT = 32

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layers:
    """Settings as read, and where each key came from.

    Attributes:
        merged: all layers, deep-merged.
        origins: dotted key to the file, variable or flag that set it last.
    """

    merged: Table
    origins: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> Settings:
        """Validate all but the backends' tables.

        Raises:
            ConfigurationError: naming key, place and fault.
        """
        try:
            return Settings.model_validate(self.merged)
        except ValidationError as error:
            raise self._explained(error, (), Settings) from None

    def backend_settings(self, plugin: Plugin[Any]) -> Any:  # noqa: ANN401 - of the plugin's own model
        """Validate the table `[backends.NAME]` of one backend.

        Raises:
            ConfigurationError: naming key, place and fault.
        """
        table = self.settings().backends.get(plugin.name, {})
        try:
            return plugin.settings_model.model_validate(table)
        except ValidationError as error:
            raise self._explained(error, ("backends", plugin.name), plugin.settings_model) from None

    def _explained(self, error: ValidationError, above: tuple[str, ...], model: type[BaseModel]) -> ConfigurationError:
        lines = []
        for fault in error.errors(include_url=False, include_input=False):
            key = ".".join((*above, *(str(part) for part in fault["loc"])))
            text = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                text = f"no such key{_nearest(model, [str(part) for part in fault['loc']])}"
            lines.append(f"{self._origin(key)}: {key}: {text}")
        return ConfigurationError("\n".join(lines))

    def _origin(self, key: str) -> str:
        while key not in self.origins and "." in key:
            key = key.rpartition(".")[0]
        return self.origins.get(key, "settings")


def _nearest(model: type[BaseModel], path: list[str]) -> str:
    """Return what may have been meant, in words, or nothing."""
    *tables, key = path
    for table in tables:
        kind = model.model_fields[table].annotation if table in model.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return ""
        model = kind
    import difflib  # for a wrong key only

    close = difflib.get_close_matches(key, model.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def read_layers(
    config: Path | None = None,
    overrides: Iterable[tuple[str, Any]] = (),
    environment: Mapping[str, str] = os.environ,
) -> Layers:
    """Read all layers of settings.

    Args:
        config: the file given by the user, which must exist; None for the default, which need not.
        overrides: dotted key and value of each flag.
        environment: where CRIIMAGE_ variables are looked for.

    Raises:
        ConfigurationError: a file that cannot be read or parsed.
    """
    merged: Table = {}
    origins: dict[str, str] = {}
    faults: list[str] = []
    for path in _files(config):
        try:
            _merge(merged, _read(path), str(path), origins)
        except ConfigurationError as error:
            faults.append(error.text)
    if faults:
        raise ConfigurationError("\n".join(faults))
    for name, text in sorted(environment.items()):
        if name.startswith(_ENVIRONMENT_PREFIX) and name not in _NOT_SETTINGS:
            keys = _keys(name.removeprefix(_ENVIRONMENT_PREFIX))
            _merge(merged, _nested(keys, read_value(text)), f"environment variable {name}", origins)
    for dotted, value in overrides:
        _merge(merged, _nested(dotted.split("."), value), f"flag for {dotted}", origins)
    return Layers(merged, origins)


def read_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    """Read text from a flag or a variable as a TOML value; what is none is the text itself."""
    try:
        found = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return found["value"] if found.keys() == {"value"} else text


def _keys(variable: str) -> list[str]:
    keys = variable.lower().split("__")
    if keys[0] == "backends" and len(keys) > 1:
        # A backend's name may have a hyphen, which no variable's name can have; settings' keys have none.
        spellings = {backend.name.replace("-", "_"): backend.name for backend in installed()}
        keys[1] = spellings.get(keys[1], keys[1])
    return keys


def _files(config: Path | None) -> list[Path]:
    main = config or DEFAULT_CONFIG
    drop_ins = main.parent / "conf.d"
    found = [main] if config is not None or is_there(main) else []
    return [*found, *files_in(drop_ins, ".toml")]


def _read(path: Path) -> Table:
    # `--config <(...)` names a pipe.
    content = read(path, pipe=True)
    try:
        return parse_toml(content)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _nested(keys: list[str], value: Any) -> Table:  # noqa: ANN401
    if len(keys) > _DEPTH_LIMIT:
        raise ConfigurationError(f"{keep_start('.'.join(keys), _DEPTH_LIMIT)}: no key has so many parts")
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _merge(into: Table, layer: Table, origin: str, origins: dict[str, str], above: str = "") -> None:
    for key, value in layer.items():
        dotted = f"{above}{key}"
        if isinstance(value, Mapping) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), dict(value), origin, origins, f"{dotted}.")
        else:
            into[key] = value
        origins[dotted] = origin
