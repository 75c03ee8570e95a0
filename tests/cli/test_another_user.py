"""Another user than root is told which of root's folders and files he may not read (issue 14, A4 and A5)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from parts.missing import need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("another_user.py")
KEYS = ("root", "run_root", "image_store", "additional", "policy_dir", "certs_dir", "auth_file", "registries_conf")
COMMANDS = {"check": ["config", "check"], "serve": ["serve"]}


def settings(key: str, closed: Path, own: Path) -> str:
    """A settings file, and the storage.conf beside it, in which one key leads to where the user may not look."""
    place = closed / key
    paths = {"root": own / "store", "run_root": own / "run", "tmp_dir": own, "registries_conf": own / "registries.conf"}
    if key in {"image_store", "additional"}:
        driver = "" if key == "image_store" else f'options = ["vfs.imagestore={place}"]\n'
        del paths["root"]
    else:
        driver = ""
        paths[key] = place
    lines = "".join(f'{name} = "{path}"\n' for name, path in paths.items())
    return f'listen = "unix://{own}/s.sock"\n[backends.containers-storage]\n{lines}{driver}'


@pytest.fixture(scope="module")
def said() -> Iterator[dict[str, str]]:
    """What each command says with each key, by `command key`; and the closed folder, as `closed`."""
    need("skopeo")
    need_root()
    with tempfile.TemporaryDirectory(prefix="criimage-user-") as folder:
        top = Path(folder)
        top.chmod(0o755)
        closed = top / "closed"
        closed.mkdir(mode=0o700)
        cases = {}
        for key in KEYS:
            for command, words in COMMANDS.items():
                own = top / f"{command}-{key}"
                own.mkdir()
                (own / "registries.conf").touch()
                split = f'imagestore = "{closed / key}"\n' if key == "image_store" else ""
                (own / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{own}/store"\n{split}')
                (own / "config.toml").write_text(settings(key, closed, own))
                os.chown(own, 65534, 65534)
                cases[f"{command} {key}"] = [*words, "--config", str(own / "config.toml")]
        found = {}
        for name, arguments in cases.items():
            environment = {
                "HOME": str(Path(arguments[-1]).parent),
                "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
                "CONTAINERS_STORAGE_CONF": str(Path(arguments[-1]).with_name("storage.conf")),
            }
            found[name] = (environment, arguments)
        ended = subprocess.run(
            [sys.executable, str(PROGRAM), json.dumps(found)], capture_output=True, text=True, check=True, timeout=300
        )
        yield {**json.loads(ended.stdout), "closed": str(closed)}


@pytest.mark.engine
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("key", KEYS)
def test_what_cannot_be_read_is_told_with_its_path(said: dict[str, str], command: str, key: str) -> None:
    """No traceback, no word of missing: the path and why it cannot be read, from `config check` and from `serve`."""
    text = said[f"{command} {key}"]
    assert "Traceback" not in text, text
    for missing in ("which is no folder", "there is no auth file", "holds no"):
        assert missing not in text, text
    if key == "image_store":
        # Whatever it is: another user than root is told that it is not followed.
        assert "sets storage.imagestore" in text
    else:
        assert f"cannot read {said['closed']}/{key}" in text, text
        assert "Permission denied" in text
