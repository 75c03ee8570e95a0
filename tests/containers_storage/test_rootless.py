"""A store of a user who is not root."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import until
from criimage.testing.oci import File, image, layer, noise_layer
from criimage_containers_storage import Settings, config_files
from criimage_containers_storage.config_files import alias_cache
from criimage_containers_storage.registries.auth_files import default_files
from criimage_containers_storage.store.storage_conf import locate
from parts.missing import lacking, need, need_root
from parts.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "correct.horse"  # noqa: S105 - of a registry that lives as long as the test
FOREIGN = 33
MIXED = image(layer({"own": b"o", "foreign": File(b"f", uid=FOREIGN, gid=FOREIGN)}), noise_layer(100_000))


def test_where_a_users_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store, run root, credentials and aliases are the user's own; storage.conf may lead elsewhere (X1, L13)."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    home, run = str(tmp_path / "home"), str(tmp_path / "run")
    environment = {"HOME": home, "XDG_RUNTIME_DIR": run}
    # The machine's own storage.conf counts for users as well; here there is to be none.
    (tmp_path / "none.conf").touch()
    nothing = environment | {"CONTAINERS_STORAGE_CONF": str(tmp_path / "none.conf")}
    layout = locate(Settings(), nothing)
    assert str(layout.root) == f"{home}/.local/share/containers/storage"
    assert str(layout.run_root) == f"{run}/containers"
    assert str(locate(Settings(), nothing | {"XDG_DATA_HOME": "/data"}).root) == "/data/containers/storage"
    assert str(default_files(environment, uid=1000)[0]) == f"{run}/containers/auth.json"
    aliases = alias_cache(environment, uid=1000)
    assert str(aliases) == f"{home}/.cache/containers/short-name-aliases.conf"
    own = tmp_path / "home/.config/containers/storage.conf"
    own.parent.mkdir(parents=True)
    own.write_text('[storage]\ngraphroot = "/not/this"\nrootless_storage_path = "$HOME/images"\nrunroot = "/r"\n')
    assert str(locate(Settings(), environment).root) == f"{home}/images"
    own.unlink()
    machines = tmp_path / "machine/storage.conf"
    machines.parent.mkdir()
    machines.write_text('[storage]\ndriver = "vfs"\ngraphroot = "/var/root"\nrunroot = "/run/root"\n')
    monkeypatch.setattr(config_files, "_ETC", machines.parent)
    layout = locate(Settings(), environment)
    assert (str(layout.root), layout.driver) == (f"{home}/.local/share/containers/storage", "vfs")
    assert str(layout.run_root) == f"{run}/containers"


@pytest.fixture
def user() -> Iterator[str]:
    """A user of the test's own, with a range of subordinate IDs and a home, gone afterwards."""
    need("skopeo", "newuidmap", "useradd", "userdel")
    need_root()
    name = f"criimage-{secrets.token_hex(4)}"
    home = Path(tempfile.mkdtemp(prefix="criimage-home-"))
    made = subprocess.run(["useradd", "--home-dir", str(home), name], capture_output=True, text=True, check=False)
    try:
        if made.returncode:
            lacking(f"no user can be made here: {made.stderr.strip()}")
        subprocess.run(["chown", name, str(home)], check=True)
        if not any(line.startswith(f"{name}:") for line in Path("/etc/subuid").read_text().splitlines()):
            lacking("useradd gives no subordinate IDs here: /etc/subuid has no range for the user")
        namespace = ["setpriv", "--reuid", name, "--clear-groups", "unshare", "--user", "true"]
        if subprocess.run(namespace, capture_output=True, check=False).returncode:
            lacking("users cannot make user namespaces here")
        yield name
    finally:
        subprocess.run(["userdel", name], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.engine
def test_a_users_own_store(user: str) -> None:
    """Pull with credentials, skip, list, figures, remove: with the user's defaults, nothing of root's (X2, X3, L14)."""
    with registry(username="bob", password=PASSWORD) as hub:
        name = hub.push(MIXED, "app", "1")
        command = [sys.executable, str(Path(__file__).with_name("as_user.py")), user, name, PASSWORD]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert seen["problems"] == []
    assert seen["id"] == MIXED.id.removeprefix("sha256:")
    assert seen["skipped"] is True
    assert seen["listed"] == [seen["id"]]
    assert seen["mountpoint"].endswith("/.local/share/containers/storage/overlay-images")
    assert seen["used"] > 100_000
    assert len(seen["owners"]) == 2  # the user, and one of the subordinate IDs
    assert 0 not in seen["owners"]
    assert (seen["left"], seen["layers"]) == ([], [])


@pytest.mark.engine
@pytest.mark.parametrize(
    ("lacks", "told"),
    [("nothing", ""), ("namespaces", r"user namespaces are not enabled|unshare\("), ("ids", "insufficient UIDs")],
)
def test_config_check_without_user_namespaces(user: str, lacks: str, told: str) -> None:
    """A user who may make none, or has no range of IDs, is told so with what to do; whoever has all of it is not (L14).

    The limit is set in a namespace of the test's own: the machine's stays as it is.
    """
    if lacks == "ids":
        for file in (Path("/etc/subuid"), Path("/etc/subgid")):
            subprocess.run(["sed", "-i", f"/^{user}:/d", str(file)], check=True)
    command = [sys.executable, str(Path(__file__).with_name("as_user.py")), user]
    if lacks == "namespaces":
        # The shell after the first one is root in the new namespace, and has root's rights there.
        limited = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" "$@"'
        command = ["unshare", "--user", "sh", "-c", 'read go; exec sh -c "$0" "$@"', limited, *command]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ended:
        if lacks == "namespaces":
            until(lambda: Path(f"/proc/{ended.pid}/comm").read_text().strip() == "sh")
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{ended.pid}/{kind}").write_text("0 0 4294967295\n")
        out, err = ended.communicate("go\n", timeout=50)
    assert ended.returncode == 0, err
    seen = json.loads(out.splitlines()[-1])
    # The client is told what the system refused; the path is for whoever has to mend it, and stands in the log.
    assert "the store cannot be written: Permission denied" in seen["refused"]
    problems = seen["problems"]
    if not told:
        assert problems == []
        return
    ((text, remedy),) = problems
    assert text.startswith("skopeo cannot unpack as this user: ")
    assert re.search(told, text, re.IGNORECASE)
    assert "/etc/subuid" in remedy
    assert "user.max_user_namespaces" in remedy
