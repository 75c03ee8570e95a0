"""What is missing for the backend to work (`check`)."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.backend import Problem
from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile, is_folder, is_there
from criimage_containers_storage.config_files import RuleSet, policy_file
from criimage_containers_storage.registries.auth_files import auth_files, fault_of
from criimage_containers_storage.registries.policy import read_policy
from criimage_containers_storage.settings import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage_containers_storage.registries.current import CurrentRegistries
    from criimage_containers_storage.settings import Settings
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Readiness"]

_LET_READ = "let the service's user read it"

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
            of_files: tuple[Problem, ...] = (Problem(error.text, _LET_READ),)
        else:
            auths, chosen = auth_files(self.settings.auth_file, self.environment, uid=os.getuid())
            signature = [(str(file), _stat(file)) for file in (policy, *auths)]
            if signature != self._signature:
                self._of_files = (*_of_policy(policy), *_of_auths(auths, needed=chosen))
                self._signature = signature
            of_files = self._of_files
        return (*self._tools(), *self._places(), *self._unreadable(), *of_files, *self._of_registries())

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
            if fault := _unwritable(place):
                yield Problem(fault, "run as the store's owner, or set root and run_root")
        if _unwritable(self.work):
            yield Problem(f"{self.work.parent} is not writable", "set tmp_dir")

    def _unreadable(self) -> Iterator[Problem]:
        places = [Path(place) for key in FOLDERS if (place := getattr(self.settings, key))]
        places += [place / f"{self.layout.driver}-images" for place in self.layout.additional]
        for place in places:
            try:
                closed = is_folder(place) and not os.access(place, os.X_OK)
            except UnreadableFile as error:
                yield Problem(error.text, _LET_READ)
            else:
                if closed:
                    yield Problem(f"cannot read {place}: {os.strerror(errno.EACCES)}", _LET_READ)

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
        try:
            fault = fault_of(file, needed=needed)
        except UnreadableFile as error:
            yield Problem(error.text, f"every pull that looks for credentials fails; {_LET_READ}")
            continue
        if fault:
            yield Problem(
                fault, "write or mend it, or set auth_file; pulls go without its credentials or fail meanwhile"
            )


def _unwritable(place: Path) -> str:
    """Return why nothing can be made in a folder, or where it would be made; empty if something can."""
    there = place
    try:
        while not is_there(there) and there != there.parent:
            there = there.parent
        if not is_folder(there):
            return f"{there} is no folder"
    except UnreadableFile as error:
        return error.text
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{place} is not writable"


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    # The last one tells of a change of mode or owner.
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns
