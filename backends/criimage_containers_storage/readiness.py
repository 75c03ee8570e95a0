"""What is missing for the backend to work (`check`)."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage.backend import Problem
from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile
from criimage_containers_storage.config_files import RuleSet, policy_file
from criimage_containers_storage.registries.auth_files import auth_files, fault_of
from criimage_containers_storage.registries.policy import read_policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from criimage_containers_storage.registries.current import CurrentRegistries
    from criimage_containers_storage.settings import Settings
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Readiness"]

_USUAL_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


@dataclass(slots=True)
class Readiness:
    """Looks for what is missing; files are read again only when they changed."""

    settings: Settings
    layout: Layout
    environment: Mapping[str, str]
    registries: CurrentRegistries
    work: Path
    rule_set: RuleSet = RuleSet.OLDER
    _signature: object = None
    _of_files: tuple[Problem, ...] = ()

    def problems(self) -> tuple[Problem, ...]:
        """Return what is missing. Blocks on some stats."""
        try:
            policy = policy_file(self.settings.policy, self.environment, self.rule_set)
        except UnreadableFile as error:
            of_files: tuple[Problem, ...] = (Problem(error.text, "let this user read it"),)
        else:
            auths, chosen = auth_files(self.settings.auth_file, self.environment, uid=os.getuid())
            signature = [(str(file), _stat(file)) for file in (policy, *auths)]
            if signature != self._signature:
                self._of_files = (*_of_policy(policy), *_of_auths(auths, needed=chosen))
                self._signature = signature
            of_files = self._of_files
        return (*self._tools(), *self._places(), *of_files, *self._of_registries())

    def _tools(self) -> Iterator[Problem]:
        path = self.environment.get("PATH")
        if shutil.which("skopeo", path=path) is None:
            yield Problem("skopeo is not installed", "install the package skopeo")
        if self.settings.remove == "untag" and self.layout.image_store is not None:
            yield Problem(
                f"single names cannot be removed from a store that is split ({self.layout.image_store})",
                'set remove = "image"',
            )
        elif self.settings.remove == "untag" and shutil.which("containers-storage", path=path) is None:
            yield Problem(
                "containers-storage is not installed",
                'install the package containers-storage, or set remove = "image"',
            )

    def _places(self) -> Iterator[Problem]:
        for place in (*self.layout.writable_roots, self.layout.run_root):
            if not _writable(place):
                yield Problem(f"{place} is not writable", "run as the store's owner, or set root and run_root")
        if not _writable(self.work):
            yield Problem(f"{self.work.parent} is not writable", "set tmp_dir")

    def _of_registries(self) -> Iterator[Problem]:
        fault, goes_on = self.registries.fault()
        if fault is not None:
            meanwhile = "pulls go by what it said before" if goes_on else "skopeo refuses it as well"
            yield Problem(fault.text, f"mend the file; {meanwhile}")
            return
        registries = self.registries.for_names()
        if registries.aliases_fault:
            yield Problem(registries.aliases_fault, "mend or delete it; short names are not resolved meanwhile")


def _of_policy(policy: Path) -> Iterator[Problem]:
    try:
        read_policy(policy)
    except ConfigurationError as error:
        yield Problem(error.text, f"write a policy.json(5) there or set policy; most use {_USUAL_POLICY}")


def _of_auths(files: list[Path], *, needed: bool) -> Iterator[Problem]:
    for file in files:
        if fault := fault_of(file, needed=needed):
            yield Problem(fault, "mend the file or set auth_file; pulls go without its credentials or fail meanwhile")


def _writable(place: Path) -> bool:
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    except OSError:
        return False


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    # The last one tells of a change of mode or owner.
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns
