"""registries.conf with its drop-ins, as containers/image reads them (cri-o C2-C5).

Read here only for what skopeo does not do or tell: search registries, aliases, blocked registries and the hosts that a
pull may ask. skopeo reads the same files itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.errors import ConfigurationError, InvalidRequest
from criimage.files import UnreadableFile, files_in, is_there, read_if_there
from criimage.foreign_toml import parse_toml
from criimage.reference import Name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from criimage.reference import Reference

__all__ = ["Mirror", "Registries", "RegistriesFiles", "Registry", "find_files", "read_registries"]

_SYSTEM_FILE = Path("/etc/containers/registries.conf")
_SYSTEM_DROP_INS = Path("/etc/containers/registries.conf.d")
_SYSTEM_ALIASES = Path("/var/cache/containers/short-name-aliases.conf")
_MODES = frozenset({"enforcing", "permissive", "disabled"})
_V1_TABLE = "registries"
DEFAULT_HELPERS = ("containers-auth.json",)


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

    def matches(self, reference: Reference) -> int:
        """Return how long a part of the name the prefix covers; 0 if it is about other names."""
        name = str(reference)
        if self.prefix.startswith("*."):
            start = name.find(self.prefix[1:])
            if start < 0 or "/" in name[:start]:
                return 0
            end = start + len(self.prefix) - 1
        elif name.startswith(self.prefix):
            end = len(self.prefix)
        else:
            return 0
        return end if name[end : end + 1] in ("", ":", "/", "@") else 0

    def endpoints(self, reference: Reference) -> list[str]:
        """Return the repositories, host first, that a pull may ask for: mirrors in order, the registry last (C4)."""
        covered = self.matches(reference)
        skipped = "tag-only" if reference.digest is not None else "digest-only"
        found = [mirror.location for mirror in self.mirrors if mirror.pull_from != skipped]
        rest = reference.repository[covered:]
        return [location + rest for location in [*found, self.location or reference.repository[:covered]]]


@dataclass(frozen=True, slots=True)
class Registries:
    """The merged configuration.

    Attributes:
        source: name of the main file, for messages.
        search: registries for short names, in order.
        mode: `short-name-mode`, or empty.
        aliases: full repository by short name; an empty one cancels (N10).
        registries: all `[[registry]]` tables.
        helpers: where the tools look for credentials, or empty for the default.
    """

    source: str = str(_SYSTEM_FILE)
    search: tuple[str, ...] = ()
    mode: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    registries: tuple[Registry, ...] = ()
    helpers: tuple[str, ...] = ()

    def find(self, reference: Reference) -> Registry | None:
        """Return the table about this name: the one with the longest prefix (C3)."""
        best = max(self.registries, key=lambda registry: registry.matches(reference), default=None)
        return best if best is not None and best.matches(reference) else None

    def endpoints(self, reference: Reference) -> list[str]:
        """Return the repositories that a pull may ask for, the primary one last."""
        registry = self.find(reference)
        return [reference.repository] if registry is None else registry.endpoints(reference)


@dataclass(frozen=True, slots=True)
class RegistriesFiles:
    """The files that make up the configuration; some may not exist.

    Attributes:
        main: registries.conf.
        drop_ins: folders of `*.conf`, in order.
        alias_cache: where the tools remember the aliases that a person chose.
        chosen: somebody asked for this very main file, so it has to exist.
    """

    main: Path
    drop_ins: tuple[Path, ...]
    alias_cache: Path
    chosen: bool = False

    def signature(self) -> tuple[object, ...]:
        """Return a value that changes when any of the files does. Blocks on some stats."""
        try:
            files = [self.main, self.alias_cache, *(file for folder in self.drop_ins for file in _drop_ins(folder))]
        except UnreadableFile as error:
            # Whoever reads them is told.
            return ("unreadable", error.text)
        return tuple((str(file), _stat(file)) for file in files)


def find_files(explicit: str, environment: Mapping[str, str], *, root: bool) -> RegistriesFiles:
    """Tell which files count (C2, N10, X1).

    Args:
        explicit: the operator's setting; drop-ins are read all the same.
        environment: CONTAINERS_REGISTRIES_CONF, HOME, XDG_CACHE_HOME.
        root: whether we are root.
    """
    home = Path(environment.get("HOME") or "/")
    user_file = home / ".config/containers/registries.conf"
    # buildah and podman honour the variable; skopeo does not, and is told the file by us (T1).
    chosen = explicit or environment.get("CONTAINERS_REGISTRIES_CONF", "")
    main = Path(chosen) if chosen else user_file if is_there(user_file) else _SYSTEM_FILE
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "containers/short-name-aliases.conf"
    drop_ins = (_SYSTEM_DROP_INS, home / ".config/containers/registries.conf.d")
    return RegistriesFiles(main, drop_ins, _SYSTEM_ALIASES if root else cache, bool(chosen))


def read_registries(files: RegistriesFiles, main: bytes | None = None) -> Registries:
    """Read and merge the files. Blocks.

    Args:
        files: where they are.
        main: content of the main file, where the one on disk is not to be looked at.

    Raises:
        ConfigurationError: a file cannot be read or breaks the format's rules; skopeo would refuse it as well.
    """
    merged = _one_file(files.main, main=True) if main is None else _content(files.main, main, main=True)
    for folder in files.drop_ins:
        for file in _drop_ins(folder):
            merged = _merge(merged, _one_file(file, main=False))
    remembered = _one_file(files.alias_cache, main=False).aliases
    return replace(merged, source=str(files.main), aliases={**merged.aliases, **remembered})


def _merge(base: Registries, over: Registries) -> Registries:
    replaced = {registry.prefix: registry for registry in (*base.registries, *over.registries)}
    return Registries(
        base.source,
        over.search or base.search,
        over.mode or base.mode,
        {**base.aliases, **over.aliases},
        tuple(replaced.values()),
        over.helpers or base.helpers,
    )


def _drop_ins(folder: Path) -> list[Path]:
    return list(files_in(folder, ".conf"))


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _one_file(file: Path, *, main: bool) -> Registries:
    content = read_if_there(file)
    return Registries() if content is None else _content(file, content, main=main)


def _content(file: Path, content: bytes, *, main: bool) -> Registries:
    try:
        return _parse(parse_toml(content), main=main)
    except (ValueError, InvalidRequest) as error:
        raise ConfigurationError(f"cannot use {file}: {error}") from error


def _parse(document: dict[str, Any], *, main: bool) -> Registries:
    version1 = document.get(_V1_TABLE)
    if isinstance(version1, dict):
        if not main:
            raise ValueError("the old format (version 1) is not allowed in drop-ins")
        if document.keys() & {"unqualified-search-registries", "registry"}:
            raise ValueError("mixes the old format (version 1) with the new one")
        return _parse_version1(version1)
    mode = document.get("short-name-mode", "")
    if mode and mode not in _MODES:
        raise ValueError(f'short-name-mode "{mode}" is none of {", ".join(sorted(_MODES))}')
    tables = document.get("registry", [])
    if not isinstance(tables, list):
        raise ValueError("registry is not an array of tables")  # noqa: TRY004 - wrong content, not a wrong argument
    return Registries(
        "",
        _search(document, "unqualified-search-registries"),
        mode,
        dict(_aliases(document.get("aliases", {}))),
        tuple({registry.prefix: registry for registry in map(_registry, tables)}.values()),
        _strings(document, "credential-helpers"),
    )


def _parse_version1(tables: dict[str, Any]) -> Registries:
    blocked = _strings(tables.get("block", {}), "registries")
    known = dict.fromkeys([*_strings(tables.get("insecure", {}), "registries"), *blocked])
    return Registries(
        search=_search(tables.get("search", {}), "registries"),
        registries=tuple(Registry(prefix, prefix, prefix in blocked) for prefix in known),
    )


def _strings(table: dict[str, Any], key: str) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{key} is not a list of texts")
    return tuple(text.removesuffix("/") for text in found)


def _search(table: dict[str, Any], key: str) -> tuple[str, ...]:
    found = _strings(table, key)
    for registry in found:
        if Name.parse(f"{registry}/x").domain is None:
            raise ValueError(f'"{registry}" in {key} is no registry host')
    return found


def _registry(table: dict[str, Any]) -> Registry:
    location = str(table.get("location", "")).removesuffix("/")
    prefix = str(table.get("prefix", "")).removesuffix("/") or location
    if not prefix:
        raise ValueError("a registry has neither prefix nor location")
    if not location and not prefix.startswith("*."):
        raise ValueError(f'registry "{prefix}" has no location')
    digest_only = table.get("mirror-by-digest-only", False)
    mirrors = tuple(_mirrors(table.get("mirror", []), "digest-only" if digest_only else "all"))
    return Registry(prefix, location, bool(table.get("blocked", False)), mirrors)


def _mirrors(tables: Sequence[dict[str, Any]], default: str) -> Iterator[Mirror]:
    for table in tables:
        location = str(table.get("location", "")).removesuffix("/")
        if not location:
            raise ValueError("a mirror has no location")
        yield Mirror(location, str(table.get("pull-from-mirror") or default))


def _aliases(table: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - TOML can hold anything here
    if not isinstance(table, dict):
        raise ValueError("aliases is not a table")  # noqa: TRY004 - wrong content, not a wrong argument
    for short, full in table.items():
        key = Name.parse(short)
        if key.domain or key.tag or key.digest:
            raise ValueError(f'alias "{short}" is not a short name')
        if not isinstance(full, str):
            raise ValueError(f'alias "{short}" is not a text')  # noqa: TRY004 - wrong content, not a wrong argument
        target = Name.parse(full) if full else None
        if target is not None and (not target.domain or target.tag or target.digest):
            raise ValueError(f'alias "{short}" does not lead to a registry and repository alone')
        yield short, full
