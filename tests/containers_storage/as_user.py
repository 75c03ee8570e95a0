"""The backend in the hands of a user who is not root: a program for test_rootless.py, started as root.

It imports everything first, as the interpreter may lie where no other user can read, and becomes the user then.
Arguments: user name, image, password of that image's user `bob`. It prints a JSON document of what it saw. Without an
image it only looks at the configuration, as `criimage config check` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import criimage_containers_storage.backend  # noqa: F401 - see above
from criimage.backend import Examined, PullContext
from criimage.credentials import Credentials
from criimage.errors import CriimageError
from criimage.reference import Lookup, Reference
from criimage_containers_storage import Settings, plugin

# Modules that are otherwise imported at their first use only.
NEEDED = (
    "anyio._backends._asyncio",
    "concurrent.futures.thread",
    "criimage_containers_storage.examination",
    "criimage_containers_storage.limits",
    "criimage_containers_storage.parts",
    "encodings.ascii",
    "encodings.idna",
    "tomllib",
    "rich.pretty",
    "getpass",
)


def become(name: str) -> Path:
    """Becomes a user, with nothing of root's environment; returns the home folder."""
    user = pwd.getpwnam(name)
    home = Path(user.pw_dir)
    os.environ.clear()
    os.environ |= {"HOME": str(home), "USER": name, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    os.environ["XDG_RUNTIME_DIR"] = str(home / "run")
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.chdir(home)
    (home / "run").mkdir(0o700)
    (home / "tmp").mkdir()
    (home / ".config/containers").mkdir(parents=True)
    registries = '[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n'
    (home / ".config/containers/registries.conf").write_text(registries)
    (home / ".config/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return home


async def look(home: Path, name: str, password: str) -> dict[str, Any]:
    """Pulls, lists, removes with the user's own defaults."""
    seen: dict[str, Any] = {}
    settings = Settings(tmp_dir=str(home / "tmp"))
    async with plugin.open(settings) as backend:
        seen["problems"] = [problem.text for problem in await backend.check()]
        reference = Reference.parse(name)
        credentials = Credentials("bob", password)
        pulled = await backend.pull(reference, credentials, PullContext(), lambda _: None)
        seen["id"] = pulled.id.hex
        again = await backend.pull(reference, credentials, PullContext(), lambda _: None)
        seen["skipped"] = again is pulled
        seen["listed"] = [image.id.hex for image in await backend.images()]
        usage = (await backend.usage()).images[0]
        seen["mountpoint"], seen["used"] = usage.mountpoint, usage.used_bytes
        diffs = home / ".local/share/containers/storage/overlay"
        seen["owners"] = sorted({file.stat().st_uid for file in diffs.glob("*/diff/*")})
        await backend.remove(Lookup.parse(name))
        seen["left"] = [image.id.hex for image in await backend.images()]
        seen["layers"] = [path.name for path in diffs.iterdir() if len(path.name) == 64]
    return seen


async def examine(home: Path) -> dict[str, Any]:
    """Tries out the user's own defaults, and pulls into a store that the user may not write."""
    seen: dict[str, Any] = {}
    settings = Settings(tmp_dir=str(home / "tmp"))
    async with plugin.open(settings) as backend:
        assert isinstance(backend, Examined)
        seen["problems"] = [(problem.text, problem.remedy) for problem in (await backend.examine()).problems]
        (home / ".local/share/containers/storage").mkdir(0o500, parents=True)
        try:
            await backend.pull(Reference.parse("127.0.0.1:1/x:1"), None, PullContext(), lambda _: None)
        except CriimageError as error:
            seen["refused"] = error.text
    return seen


def main() -> None:
    """See the module."""
    for module in NEEDED:
        __import__(module)
    home = become(sys.argv[1])
    seen = asyncio.run(look(home, *sys.argv[2:]) if sys.argv[2:] else examine(home))
    print(json.dumps(seen))  # noqa: T201 - for the test


if __name__ == "__main__":
    main()
