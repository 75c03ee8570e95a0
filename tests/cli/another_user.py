"""`criimage` in the hands of a user who is not root: a program for test_another_user.py, started as root.

It imports everything first, as the interpreter may lie where no other user can read, and then runs each command in a
process of its own that has become the user. Argument: a JSON object of variables and command lines by name. It prints
another of what each of them wrote. A server is ended when it has told a problem.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback

import criimage
import criimage_containers_storage
from criimage import plugins
from criimage.cli import main

USER = 65534
SECONDS = 20


def import_everything() -> None:
    """Imports all modules, and keeps the list of backends, which is read from files again and again."""
    for package in (criimage, criimage_containers_storage):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(("criimage.testing", "criimage.__main__")):
                importlib.import_module(module.name)
    for name in ("anyio._backends._asyncio", "encodings.ascii", "encodings.idna", "difflib", "uuid", "getpass"):
        importlib.import_module(name)
    found = tuple(one for one in plugins.installed() if one.name == "containers-storage")
    vars(plugins)["_installed"] = lambda _: found


def told(environment: dict[str, str], arguments: list[str]) -> str:
    """What a command writes to both outputs, with nothing of root's environment."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        for number in (1, 2):
            os.dup2(writing, number)
        signal.alarm(SECONDS)
        os.environ.clear()
        os.environ |= environment
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        try:
            main(arguments, prog_name="criimage")
        except SystemExit:
            pass
        except BaseException:  # noqa: BLE001 - as the interpreter does, without the clean-up of the parent's things
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    os.close(writing)
    seen = b""
    while piece := os.read(reading, 65536):
        seen += piece
        if b"a problem stands" in seen:
            os.kill(child, signal.SIGTERM)
    os.close(reading)
    os.waitpid(child, 0)
    return seen.decode(errors="replace")


if __name__ == "__main__":
    import_everything()
    print(json.dumps({name: told(*case) for name, case in json.loads(sys.argv[1]).items()}))  # noqa: T201
