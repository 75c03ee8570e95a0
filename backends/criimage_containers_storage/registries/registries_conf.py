"""registries.conf with its drop-ins, as containers/image reads them (cri-o C2-C5).

Read here only for what skopeo does not do or tell: search registries, aliases, blocked registries and the hosts that a
pull may ask. skopeo reads the same files itself and alone judges them (`judge`), so what it would refuse is not looked
for here; what it takes is read as its own reader takes it.
"""

from __future__ import annotations

import codecs
import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.errors import ConfigurationError, CriimageError, InvalidRequest
from criimage.files import read, read_if_there
from criimage.foreign_toml import parse_toml
from criimage.reference import DEFAULT_DOMAIN, Name, registry_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage.reference import Reference
    from criimage_containers_storage.config_files import ConfigFiles

__all__ = ["DEFAULT_HELPER", "Mirror", "Registries", "Registry", "alias_target", "read_registries"]

DEFAULT_HELPER = "containers-auth.json"
"""What stands for the auth files among the credential helpers."""

_SYSTEM_FILE = Path("/etc/containers/registries.conf")


@dataclass(frozen=True, slots=True)
class Mirror:
    """A place that may serve in place of a registry.

    Attributes:
        location: host and path.
        pull_from: `all`, `digest-only` or `tag-only`.
    """

    location: str
    pull_from: str = "all"


@dataclass(frozen=True, slots=True)
class Registry:
    """One `[[registry]]` table (C3).

    Attributes:
        prefix: of the names it is about; may begin with `*.`.
        location: what the prefix is replaced by, or empty.
        blocked: nothing may be pulled from it.
        mirrors: asked before it, in order.
    """

    prefix: str
    location: str
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    def covers(self, repository: str) -> int:
        """Return how long a part of the name the prefix covers; 0 if it is about other names."""
        if self.prefix.startswith("*."):
            start = repository.find(self.prefix[1:])
            if start < 0 or "/" in repository[:start]:
                return 0
            end = start + len(self.prefix) - 1
        elif repository.startswith(self.prefix):
            end = len(self.prefix)
        else:
            return 0
        return end if repository[end : end + 1] in ("", ":", "/", "@") else 0

    def source(self, reference: Reference) -> str:
        """Return the repository, host first, that the registry itself would be asked for (C4)."""
        covered = self.covers(reference.repository)
        return (self.location or reference.repository[:covered]) + reference.repository[covered:]

    def mirrored(self, reference: Reference) -> list[str]:
        """Return the repositories that mirrors may be asked for, in order."""
        rest = reference.repository[self.covers(reference.repository) :]
        skipped = "tag-only" if reference.digest is not None else "digest-only"
        return [mirror.location + rest for mirror in self.mirrors if mirror.pull_from != skipped]


@dataclass(frozen=True, slots=True)
class Registries:
    """The merged configuration.

    Attributes:
        source: name of the main file, for messages.
        search: registries for short names, in order.
        mode: `short-name-mode`, or empty.
        aliases: full repository by short name; an empty one cancels (N10).
        aliases_fault: why the aliases that people have chosen cannot be read, or empty.
        registries: all `[[registry]]` tables.
        helpers: where the tools look for credentials, or empty for the default.
    """

    source: str = str(_SYSTEM_FILE)
    search: tuple[str, ...] = ()
    mode: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    aliases_fault: str = ""
    registries: tuple[Registry, ...] = ()
    helpers: tuple[str, ...] = ()

    def find(self, reference: Reference) -> Registry | None:
        """Return the table about this name: the one whose prefix is the longest text (C3)."""
        return self.about(reference.repository)

    def about(self, repository: str) -> Registry | None:
        """Return the table about a repository, host first."""
        fitting = [registry for registry in self.registries if registry.covers(repository)]
        return max(fitting, key=lambda registry: len(registry.prefix), default=None)

    def endpoints(self, reference: Reference) -> list[str]:
        """Return the repositories that a pull may ask for: mirrors in order, the registry last unless blocked."""
        registry = self.find(reference)
        if registry is None:
            return [reference.repository]
        return registry.mirrored(reference) + ([] if registry.blocked else [registry.source(reference)])

    def asks_docker_hub(self, reference: Reference) -> bool:
        """Tell whether a pull is Docker Hub's or asks it, whatever it is called: it counts who fetches a manifest."""
        places = (reference.repository, *self.endpoints(reference))
        return any(registry_host(place.partition("/")[0]) == DEFAULT_DOMAIN for place in places)


@dataclass(frozen=True, slots=True)
class _File:
    """What one file says; None where it says nothing, which an empty list is not."""

    search: tuple[str, ...] | None = None
    mode: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    registries: tuple[Registry, ...] = ()
    helpers: tuple[str, ...] | None = None


def read_registries(files: ConfigFiles, alias_cache: Path, main: bytes | None = None) -> Registries:
    """Read and merge the files. Blocks.

    Args:
        files: where they are.
        alias_cache: where the tools remember the aliases that a person chose; skopeo does not look at it.
        main: content of the main file, where the one on disk is not to be looked at.

    Raises:
        ConfigurationError: a file cannot be read, or is no TOML.
    """
    merged = _File()
    content = _main(files) if main is None else main
    pieces = [(files.main, content)] if content is not None else []
    for file, piece in [*pieces, *((file, read(file)) for file in files.drop_ins())]:
        merged = _merge(merged, _parse(file, piece))
    found = Registries(
        str(files.main),
        merged.search or (),
        merged.mode,
        merged.aliases,
        registries=merged.registries,
        helpers=merged.helpers or (),
    )
    try:
        remembered = _remembered(alias_cache)
    except CriimageError as error:
        return replace(found, aliases_fault=error.text)
    return replace(found, aliases={**found.aliases, **remembered})


def _main(files: ConfigFiles) -> bytes | None:
    content = read_if_there(files.main)
    if content is None and files.chosen:
        raise ConfigurationError(f"there is no {files.main}")
    return content


def _merge(base: _File, over: _File) -> _File:
    replaced = {registry.prefix: registry for registry in (*base.registries, *over.registries)}
    return _File(
        base.search if over.search is None else over.search,
        over.mode or base.mode,
        {**base.aliases, **over.aliases},
        tuple(replaced.values()),
        base.helpers if over.helpers is None else over.helpers,
    )


def _parse(file: Path, content: bytes) -> _File:
    try:
        document = parse_toml(content.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise ConfigurationError(f"cannot use {file}: {error}") from error
    version1 = _get(document, "registries")
    if isinstance(version1, dict) and any(_strings(_get(version1, key), "registries") for key in version1):
        return _parse_version1(version1)
    tables = [_registry(table) for table in _tables(document, "registry")]
    aliases = _get(document, "aliases")
    return _File(
        _strings(document, "unqualified-search-registries"),
        _text(document, "short-name-mode"),
        {short: full for short, full in aliases.items() if isinstance(full, str)} if isinstance(aliases, dict) else {},
        # Of equal prefixes in one file the first counts.
        tuple({one.prefix: one for one in reversed(tables)}.values()),
        _strings(document, "credential-helpers"),
    )


def _parse_version1(tables: dict[str, Any]) -> _File:
    blocked = _strings(_get(tables, "block"), "registries") or ()
    known = dict.fromkeys([*(_strings(_get(tables, "insecure"), "registries") or ()), *blocked])
    return _File(
        search=_strings(_get(tables, "search"), "registries"),
        registries=tuple(Registry(prefix, prefix, prefix in blocked) for prefix in known),
    )


def _remembered(file: Path) -> Mapping[str, str]:
    content = read_if_there(file)
    if content is None:
        return {}
    aliases = _parse(file, content).aliases
    for short, full in aliases.items():
        if full:
            alias_target(short, full, str(file))
    return aliases


def alias_target(short: str, full: str, source: str) -> Name:
    """Return the repository that an alias leads to.

    Raises:
        ConfigurationError: it leads to none with its registry; the text names the file.
    """
    with contextlib.suppress(InvalidRequest):
        target = Name.parse(full)
        if target.domain and not (target.tag or target.digest):
            return target
    raise ConfigurationError(f'cannot use {source}: alias "{short}" does not lead to a repository')


def _get(table: Any, key: str) -> Any:  # noqa: ANN401 - TOML can hold anything here
    """Return a table's value as Go's reader finds it: by the very key, else by the key in other cases."""
    if not isinstance(table, dict):
        return None
    if key in table:
        return table[key]
    return next((value for name, value in table.items() if name.casefold() == key), None)


def _strings(table: Any, key: str) -> tuple[str, ...] | None:  # noqa: ANN401
    found = _get(table, key)
    if not isinstance(found, list):
        return None
    return tuple(text.rstrip("/") for text in found if isinstance(text, str))


def _text(table: Any, key: str) -> str:  # noqa: ANN401
    found = _get(table, key)
    return found if isinstance(found, str) else ""


def _tables(table: Any, key: str) -> list[dict[str, Any]]:  # noqa: ANN401
    found = _get(table, key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _registry(table: dict[str, Any]) -> Registry:
    location = _text(table, "location").rstrip("/")
    digest_only = _get(table, "mirror-by-digest-only") is True
    return Registry(
        _text(table, "prefix").rstrip("/") or location,
        location,
        _get(table, "blocked") is True,
        tuple(_mirrors(table, "digest-only" if digest_only else "all")),
    )


def _mirrors(table: dict[str, Any], default: str) -> Iterator[Mirror]:
    for one in _tables(table, "mirror"):
        yield Mirror(_text(one, "location").rstrip("/"), _text(one, "pull-from-mirror") or default)
