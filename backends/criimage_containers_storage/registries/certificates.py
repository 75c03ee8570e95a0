"""Certificates for registries, as skopeo takes them from a folder (containers-certs.d(5)).

`*.crt` is an authority, `*.cert` a client's certificate whose key is beside it as `*.key`. skopeo stops at the first
file of a folder that does not fit, so every pull from that registry fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from criimage.backend import Problem
from criimage.files import UnreadableFile, entries_of, files_in, read
from criimage_containers_storage.config_files import RuleSet, home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["certificate_problems"]


def certificate_problems(chosen: str, environment: Mapping[str, str], rules: RuleSet) -> Iterator[Problem]:
    """Yield what skopeo would stumble over. Blocks on small files.

    Args:
        chosen: the one folder for all registries; empty for those of the machine.
        environment: HOME and the tools' variables.
        rules: by which the skopeo in use finds its files.
    """
    for folder in [Path(chosen)] if chosen else _folders(environment, rules):
        try:
            yield from _of_folder(folder)
        except UnreadableFile as error:
            yield Problem(error.text, "let this user read it: pulls that need these certificates fail")


def _folders(environment: Mapping[str, str], rules: RuleSet) -> Iterator[Path]:
    """Yield the folder of each registry that has one."""
    own = home_folder(environment) / ".config"
    if rules is RuleSet.NEWER and environment.get("XDG_CONFIG_HOME"):
        own = Path(environment["XDG_CONFIG_HOME"])
    places = [own / "containers/certs.d", Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d")]
    if rules is RuleSet.NEWER:
        places.append(Path("/usr/share/containers/certs.d"))
    for place in places:
        try:
            folders = entries_of(place)
        except UnreadableFile:
            continue  # skopeo, too, goes on without
        yield from folders


def _of_folder(folder: Path) -> Iterator[Problem]:
    certificates = {file.stem: file for file in files_in(folder, ".cert")}
    keys = {file.stem: file for file in files_in(folder, ".key")}
    for stem, file in certificates.items():
        if stem not in keys:
            yield Problem(
                f"the client certificate {file} has no {stem}.key beside it",
                "put its key there; the certificate of an authority is named *.crt",
            )
    for stem, file in keys.items():
        if stem not in certificates:
            yield Problem(f"the key {file} has no {stem}.cert beside it", "put its certificate there, or take it away")
    for file in (*files_in(folder, ".crt"), *certificates.values(), *keys.values()):
        try:
            read(file)
        except UnreadableFile as error:
            yield Problem(error.text, "let this user read it: pulls that need these certificates fail")
