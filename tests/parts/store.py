"""A containers-storage store in a folder of its own, and the tools that work on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.missing import need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 60.0
_DELETE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Store:
    """A store of this test's own.

    Attributes:
        folder: everything below is in it.
        root: images and layers.
        run_root: what is gone after a restart.
        driver: `overlay` or `vfs`.
        registries_conf: which registries the tools know; see `write_registries`.
        policy: which images the tools accept: all.
        tmp: where the tools put what they download.
    """

    folder: Path
    root: Path
    run_root: Path
    driver: str
    registries_conf: Path
    policy: Path
    tmp: Path

    @property
    def spec(self) -> str:
        """The store in containers-storage's own words: `[overlay@/root+/run]`."""
        return f"[{self.driver}@{self.root}+{self.run_root}]"

    def reference(self, name: str) -> str:
        """What skopeo calls an image of this store.

        Args:
            name: a full name, or `@` and the 64 hex digits of an ID.
        """
        return f"containers-storage:{self.spec}{name}"

    def skopeo(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs skopeo with this store's configuration.

        Raises:
            subprocess.CalledProcessError: it failed, and `check` is set.
        """
        known = [
            "--registries-conf",
            str(self.registries_conf),
            "--policy",
            str(self.policy),
            "--tmpdir",
            str(self.tmp),
        ]
        return _run(["skopeo", *known, *arguments], check=check)

    def pull(self, name: str) -> None:
        """Copies an image from its registry into the store, as another tool on the node would.

        Raises:
            subprocess.CalledProcessError: skopeo failed.
        """
        self.skopeo("copy", "-q", f"docker://{name}", self.reference(name))

    def command(self, verb: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the `containers-storage` command on this store.

        Raises:
            subprocess.CalledProcessError: it failed, and `check` is set.
        """
        where = ["-g", str(self.root), "-R", str(self.run_root), "-s", self.driver]
        return _run(["containers-storage", *where, verb, *arguments], check=check)

    def images(self) -> dict[str, tuple[str, ...]]:
        """The names of every image by its ID (64 hex digits), as the store's own file has them."""
        return {record["id"]: tuple(record.get("names") or ()) for record in self._records("images")}

    def layers(self) -> set[str]:
        """The IDs of all layers, as the store's own file has them."""
        return {record["id"] for record in self._records("layers")}

    def layer_folders(self) -> set[str]:
        """The layers that take space on the disk, known to the store or not."""
        place = self.root / "overlay" if self.driver == "overlay" else self.root / "vfs" / "dir"
        # The overlay driver keeps a folder of short links and some marks of its own there too.
        return {entry.name for entry in place.iterdir() if len(entry.name) == 64} if place.is_dir() else set()

    def hold(self, image: str) -> str:
        """Makes a container of an image, so that the image is in use.

        Args:
            image: an ID or a name.

        Returns:
            the container's ID; `release` takes it.
        """
        made = json.loads(self.command("create-container", "--json", image).stdout)
        return str(made["id"])

    def release(self, container: str) -> None:
        """Deletes a container that `hold` made."""
        self.command("delete-container", container)

    def write_registries(self, text: str) -> None:
        """Replaces the registries.conf, by rename as an administrator's tools do."""
        fresh = self.registries_conf.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.registries_conf)

    def _records(self, kind: str) -> list[dict[str, Any]]:
        file = self.root / f"{self.driver}-{kind}" / f"{kind}.json"
        text = file.read_text() if file.exists() else ""
        records: list[dict[str, Any]] = json.loads(text) if text.strip() else []
        return records


@contextlib.contextmanager
def store(*, driver: str = "overlay", registries: str = "", parent: Path | None = None) -> Iterator[Store]:
    """Makes an empty store, and deletes it with all its mounts when the block is left.

    Nothing is created below `root` before the first tool does: an untouched store is a case of its own.

    Args:
        driver: `overlay` or `vfs`.
        registries: the text of its registries.conf. Without any, names below 127.0.0.1 go over plain HTTP and nothing
            else is special.
        parent: where its folder is made, for a test with a file system of its own; the usual place if None.

    Yields:
        the store.
    """
    need("skopeo", "containers-storage")
    need_root()
    folder = Path(tempfile.mkdtemp(prefix="criimage-store-", dir=parent))
    made = Store(
        folder,
        folder / "root",
        folder / "run",
        driver,
        folder / "registries.conf",
        folder / "policy.json",
        folder / "tmp",
    )
    try:
        made.tmp.mkdir()
        made.write_registries(registries or insecure_registries("127.0.0.1"))
        made.policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
        yield made
    finally:
        _delete(folder)


def _delete(folder: Path) -> None:
    """Deletes a store; a tool of a server that was killed may still be ending, and write into it."""
    end = time.monotonic() + _DELETE_SECONDS
    while True:
        try:
            # Such a tool may itself unmount what was found mounted a moment ago.
            unmount_below(folder)
            shutil.rmtree(folder)
        except (OSError, subprocess.CalledProcessError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def insecure_registries(*addresses: str) -> str:
    """A registries.conf that lets the tools speak plain HTTP to these registries; no port means every port."""
    return "".join(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n\n' for address in addresses)


def unmount_below(folder: Path) -> None:
    """Unmounts whatever is mounted in a folder: the overlay driver mounts its own folder on itself and leaves it so."""
    # Spaces and the like are written \040 there; a folder made by tempfile has none.
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((one for one in mounts if Path(one).is_relative_to(folder)), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True, capture_output=True)


def _run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    # Its own session, so that a Ctrl-C in the terminal reaches the test first and the store is left whole.
    return subprocess.run(
        command,
        check=check,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
