"""What `config check` finds out over and above `check`: which files are read, and whether skopeo works with all of it.

skopeo copies a tiny image into a store in a folder of its own, on the file system of the real one and gone afterwards:
same driver, same options, no network. The policy and the registries are read by it as well. What reading a file shows
is told by `check` (`readiness`), and not again here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from criimage.backend import Examination, Problem
from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile, is_folder, is_there, unfit_place
from criimage_containers_storage.config_files import alias_cache, policy_file, registries_files, storage_files
from criimage_containers_storage.finishing import finish
from criimage_containers_storage.pulling.failures import USER_NAMESPACE, last_words, tidy
from criimage_containers_storage.pulling.process import run
from criimage_containers_storage.registries.auth_files import default_files
from criimage_containers_storage.registries.certificates import certificate_problems
from criimage_containers_storage.registries.policy import read_policy
from criimage_containers_storage.settings import FOLDERS
from criimage_containers_storage.store.split_store import tools_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from criimage_containers_storage.config_files import RuleSet
    from criimage_containers_storage.settings import Settings
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Examiner"]

_ACCEPTS = '{"default": [{"type": "insecureAcceptAnything"}]}'
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_NAMESPACE_REMEDY = (
    "it needs a user namespace: allow them (user.max_user_namespaces, kernel.unprivileged_userns_clone, AppArmor), "
    "install uidmap, and give this user a range of IDs in /etc/subuid and /etc/subgid"
)
_STORE_REMEDY = "choose another driver or other options, in [backends.containers-storage] or in storage.conf"
_NAME = "criimage.invalid/check:1"


@dataclass(frozen=True, slots=True)
class Examiner:
    """Looks at one configuration.

    Attributes:
        settings: the operator's.
        layout: the store that they lead to.
        environment: of the tools.
        rule_set: by which skopeo finds its files.
        version: of skopeo, or empty.
    """

    settings: Settings
    layout: Layout
    environment: Mapping[str, str]
    rule_set: RuleSet
    version: str

    async def examine(self) -> Examination:
        """Return what is wrong and what is worth knowing; takes a second."""
        problems = await anyio.to_thread.run_sync(lambda: tuple(self._places()))
        facts = await anyio.to_thread.run_sync(lambda: tuple(self._files()))
        if self.version:
            problems += await self._try_out()
        return Examination(problems, facts)

    def _files(self) -> Iterator[str]:
        uid = os.geteuid()
        shown = self.version or "none"
        yield f"skopeo {shown}: its files are found by the {self.rule_set.value} rules"
        try:
            registries = registries_files(self.settings.registries_conf, self.environment, self.rule_set, uid=uid)
            storage = storage_files(self.environment, self.rule_set, uid=uid)
            read = [registries.main, *registries.drop_ins(), alias_cache(self.environment, uid=uid)]
            read += [policy_file(self.settings.policy, self.environment, self.rule_set)]
            read += [storage.main, *storage.drop_ins(), *self._auth_files()]
            for file in dict.fromkeys(read):
                if is_there(file):
                    yield f"read: {file}"
            if not is_there(self.layout.images_folder):
                # A mistyped place looks like a new one.
                where = self.layout.writable_roots[0]
                yield f"there is no {self.layout.driver} store at {where} yet: the first pull makes one"
        except ConfigurationError:
            # `check` tells it.
            return

    def _auth_files(self) -> Sequence[Path]:
        chosen = self.settings.auth_file
        return [Path(chosen)] if chosen else default_files(self.environment, uid=os.geteuid())

    def _places(self) -> Iterator[Problem]:
        for place in dict.fromkeys((*self.layout.writable_roots, self.layout.run_root)):
            if reason := unfit_place(place):
                yield Problem(f"no store can be at {place}: {reason}", "set root and run_root")
        for key in FOLDERS:
            place = getattr(self.settings, key)
            if place and _is_no_folder(Path(place)):
                yield Problem(f"{key} is {place}, which is no folder", f"make it, or leave {key} empty")
        yield from certificate_problems(self.settings.certs_dir, self.environment, self.rule_set)
        for place in self.layout.additional:
            if _is_no_folder(place / f"{self.layout.driver}-images"):
                yield Problem(
                    f"the additional store {place} holds no {self.layout.driver} store",
                    "mount it, or take it out of additionalimagestores",
                )

    async def _try_out(self) -> tuple[Problem, ...]:
        place = self._place()
        try:
            folder = Path(await anyio.to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="criimage-check-", dir=place)))
            try:
                await anyio.to_thread.run_sync(_write_image, folder / "image")
                (folder / "accepts.json").write_text(_ACCEPTS)
                return (*await self._store(folder), *await self._policy(folder))
            finally:
                await finish(anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True)))
        except OSError as error:
            where = f"{error.filename or place}: {error.strerror or type(error).__name__}"
            return (Problem(f"cannot try out a store: {where}", "make it writable with some space, or set tmp_dir"),)

    def _place(self) -> Path:
        # Where the store is, if that can be: what a driver can do depends on the file system below it, and a store may
        # have one of its own.
        root = self.layout.root
        place = root if os.path.ismount(root) else root.parent
        # What may be searched can be looked at.
        if unfit_place(place) or not (os.access(place, os.W_OK | os.X_OK) and is_folder(place)):
            place = Path(self.settings.tmp_dir or tempfile.gettempdir())
        return place

    async def _store(self, folder: Path) -> tuple[Problem, ...]:
        # One that cannot be looked at has been told.
        there = tuple(place for place in self.layout.additional if os.access(place, os.R_OK | os.X_OK))
        # Without a mount of its own, which would outlive the run.
        options = self.layout.options + (("overlay.skip_mount_home=true",) if self.layout.driver == "overlay" else ())
        options = tuple(dict.fromkeys(options))
        split = folder / "images" if self.layout.image_store is not None else None
        layout = replace(
            self.layout,
            root=folder / "root",
            run_root=folder / "run",
            additional=there,
            options=options,
            image_store=split,
        )
        target = f"containers-storage:{layout.spec}{_NAME}"
        with tools_environment(layout, self.environment) as environment:
            said = await self._skopeo(folder, folder / "accepts.json", target, environment)
        if not said and not is_there(layout.images_folder / "images.json"):
            return (
                Problem(
                    f"skopeo {self.version} does not put images into imagestore ({self.layout.image_store})",
                    "use a skopeo that does, or set root to one store",
                ),
            )
        if said and os.geteuid() != 0 and USER_NAMESPACE.search(said):
            return (Problem(f"skopeo cannot unpack as this user: {said}", _NAMESPACE_REMEDY),)
        if said:
            where = f"driver {layout.driver}" + (f", options {' '.join(self.layout.options)}" if layout.options else "")
            return (Problem(f"skopeo cannot fill a store here ({where}): {said}", _STORE_REMEDY),)
        return ()

    async def _policy(self, folder: Path) -> tuple[Problem, ...]:
        policy = await anyio.to_thread.run_sync(policy_file, self.settings.policy, self.environment, self.rule_set)
        try:
            await anyio.to_thread.run_sync(read_policy, policy)
        except ConfigurationError:
            # `check` tells it.
            return ()
        said = await self._skopeo(folder, policy, f"dir:{folder / 'copied'}", self.environment)
        # That it rejects an image from a folder is its good right.
        if said and "policy" in said.lower() and "rejected" not in said.lower():
            return (Problem(f"skopeo cannot use {policy}: {said}", "see containers-policy.json(5)"),)
        return ()

    async def _skopeo(self, folder: Path, policy: Path, target: str, environment: Mapping[str, str]) -> str:
        command = ["skopeo", "--policy", str(policy), "--tmpdir", str(folder), "copy", "-q"]
        outcome = await run([*command, f"dir:{folder / 'image'}", target], environment=environment)
        if not outcome.code:
            return ""
        # That is said before skopeo's own log begins, or in the midst of it.
        early = next((line for line in outcome.err.splitlines() if USER_NAMESPACE.search(line)), None)
        said = last_words(outcome) if early is None or "level=" in early else early
        # The cause is the operator's, who has never heard of the trial's folders.
        for name, meant in (("root", self.layout.root), ("run", self.layout.run_root)):
            said = said.replace(str(folder / name), str(meant))
        return tidy(said)


def _is_no_folder(place: Path) -> bool:
    """Tell whether there is no folder at a place for certain; that it cannot be looked at is told by `check`."""
    try:
        return not is_folder(place)
    except UnreadableFile:
        return False


def _write_image(folder: Path) -> None:
    """Write an image of one tiny layer as skopeo's `dir:` has it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("check"), io.BytesIO(b""))
        # As in most images, one that is not root's: a user without a range of IDs cannot unpack it.
        other = tarfile.TarInfo("other")
        other.uid = other.gid = 1
        archive.addfile(other, io.BytesIO(b""))
    layer = content.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    folder.mkdir()
    described = []
    for kind, data in ((_CONFIG, config), (_LAYER, layer)):
        digest = hashlib.sha256(data).hexdigest()
        (folder / digest).write_bytes(data)
        described.append({"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)})
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described[0], "layers": described[1:]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
