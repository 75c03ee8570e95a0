"""Credentials on their way to skopeo: in a file that exists in memory only (cri-o A8-A11, T12).

Neither the command line nor the environment of a process keeps a secret from the machine's other users, and a file on
disk may outlive us.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from criimage.files import UnreadableFile, read_if_there
from criimage.foreign_json import parse_object
from criimage_containers_storage.config_files import home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from criimage.credentials import Credentials

__all__ = ["auth_files", "default_files", "fault_of", "in_memory", "read_auth_file", "render", "sendable"]

_log = structlog.get_logger(__name__)

_LEGACY = ".dockercfg"


def sendable(credentials: Credentials) -> bool:
    """Tell whether an auth file can carry these: a registry token alone has no place in one."""
    return bool(credentials.username or credentials.identity_token)


def auth_files(chosen: str, environment: Mapping[str, str], *, uid: int) -> tuple[list[Path], bool]:
    """Return where credentials are looked for, and whether somebody has asked for this very file.

    Args:
        chosen: the operator's setting.
        environment: HOME and the tools' variables.
        uid: whose.
    """
    if chosen:
        return [Path(chosen)], True
    return default_files(environment, uid=uid), bool(environment.get("REGISTRY_AUTH_FILE", ""))


def fault_of(file: Path, *, needed: bool) -> str:
    """Return what is wrong with an auth file; empty if nothing is. Blocks.

    Args:
        file: the auth file.
        needed: whether there has to be one.

    Raises:
        UnreadableFile: it cannot be told.
    """
    try:
        content = read_if_there(file)
        if content is not None:
            parse_object(content)
        elif needed:
            return f"there is no auth file {file}"
    except ValueError as error:
        return f"cannot read the auth file {file}: {error}"
    return ""


def default_files(environment: Mapping[str, str], *, uid: int) -> list[Path]:
    """Return where the tools look for credentials, the first that knows a registry wins (A8)."""
    chosen = environment.get("REGISTRY_AUTH_FILE", "")
    if chosen:
        return [Path(chosen)]
    home = home_folder(environment)
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    first = Path(runtime) / "containers/auth.json" if runtime else Path(f"/run/containers/{uid}/auth.json")
    docker = Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    return [first, config, docker, home / _LEGACY]


def render(
    credentials: Credentials, repositories: Sequence[str], mirrors: Sequence[str], files: Sequence[Path]
) -> bytes:
    """Return an auth file with the request's credentials for exactly these repositories. Blocks.

    The full repository as key beats every entry of a host or namespace (A9). Each mirror on another host gets what the
    machine has for it, from the first file that knows it, as the tools would find it (A10). A file that cannot be read
    is as if it were not there: the request's own credentials do not depend on it.

    Args:
        credentials: of the request, `sendable`.
        repositories: `host/path` each.
        mirrors: `host/path` each, none of them among `repositories`.
        files: the machine's own files, the first wins.
    """
    auths: dict[str, Any] = {}
    helpers: dict[str, Any] = {}
    documents = [read_auth_file(file) for file in files]
    for mirror in mirrors:
        host = mirror.partition("/")[0]
        for document in documents:
            helper = _table(document, "credHelpers").get(host)
            entry = None if helper else _entry(_table(document, "auths"), mirror)
            if helper and not any(known.partition("/")[0] == host for known in auths):
                # A helper answers for the host as a whole, and before any entry.
                helpers[host] = helper
            elif entry is not None:
                auths[mirror] = entry
            if helper or entry is not None:
                break
    pair = f"{credentials.username}:{credentials.password}".encode("utf-8", "surrogateescape")
    entry = {"auth": base64.b64encode(pair).decode()}
    if credentials.identity_token:
        entry["identitytoken"] = credentials.identity_token
    for repository in repositories:
        auths[repository] = entry
        helpers.pop(repository.partition("/")[0], None)
    return json.dumps({"auths": auths, "credHelpers": helpers}).encode("utf-8", "surrogateescape")


def read_auth_file(file: Path) -> dict[str, Any]:
    """Return what an auth file holds; nothing if there is none, or none that can be read, which is logged. Blocks."""
    try:
        content = read_if_there(file)
        found = {} if content is None else parse_object(content)
    except UnreadableFile as error:
        _log.warning("auth file cannot be read", file=str(file), error=error.text)
        return {}
    except ValueError as error:
        # The reader of JSON quotes nothing of what it could not read.
        _log.warning("auth file cannot be read", file=str(file), error=str(error))
        return {}
    return {"auths": {_host(key): entry for key, entry in found.items()}} if file.name == _LEGACY else found


def _entry(auths: dict[str, Any], repository: str) -> Any:  # noqa: ANN401 - JSON can hold anything here
    """Return a file's entry for a repository: of itself, of the namespaces above it, of its host in any spelling."""
    key = repository
    while True:
        if (found := auths.get(key)) is not None:
            return found if _says_something(found) else None
        if "/" not in key:
            break
        key = key.rpartition("/")[0]
    same = (entry for known, entry in auths.items() if _host(known) == _host(key))
    return next((entry for entry in same if _says_something(entry)), None)


def _says_something(entry: Any) -> bool:  # noqa: ANN401
    # An empty one is what docker leaves where a helper has the credentials; the tools go on to the next file then.
    return isinstance(entry, dict) and bool(entry.get("auth"))


def _host(key: str) -> str:
    stripped = key.removeprefix("http://").removeprefix("https://")
    host = stripped.partition("/")[0] if stripped != key else stripped
    return "index.docker.io" if host in {"docker.io", "registry-1.docker.io"} else host


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    table = document.get(key)
    return table if isinstance(table, dict) else {}


@contextlib.contextmanager
def in_memory(content: bytes) -> Iterator[int]:
    """Yield the descriptor of a file that no directory names, with this content; gone with the last descriptor.

    A child that inherits it opens `/proc/self/fd/N` as often as it likes, each time from the beginning.
    """
    descriptor = os.memfd_create("auth", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, content)  # a memory file takes everything at once
        yield descriptor
    finally:
        os.close(descriptor)
