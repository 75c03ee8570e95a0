"""`python3 -m setup TARGET`, called by the Makefile from the folder `tests`; its targets are below."""

from __future__ import annotations

import os
import sys

from setup.clients import build_clients
from setup.deb import build_debs
from setup.environments import PROJECT, project, tools
from setup.packages import DEMO, LONG, ROOTLESS, TESTS, install
from setup.say import SetupError

_QUICK = "lint,types,layers,wire,quick"
_DEMO = str(PROJECT / "docs" / "demo" / "demo.py")


def main(arguments: list[str]) -> None:
    """Installs what is missing for a target and then becomes the program that does it.

    Args:
        arguments: the target, then arguments for that program.

    Raises:
        SystemExit: there is nothing to become, with a line that says why.
    """
    target, *more = arguments or [""]
    os.chdir(PROJECT)
    try:
        command = _prepare(target)
    except SetupError as error:
        sys.exit(f"setup: {error}")
    sys.stdout.flush()
    os.execv(command[0], [*command, *more])  # noqa: S606 - so that signals and the exit code are that program's own


def _prepare(target: str) -> list[str]:
    match target:
        case "test":
            install(TESTS)
            build_clients()
            return [str(tools() / "tox"), "run"]
        case "check":
            return [str(tools() / "tox"), "run", "-e", _QUICK]
        case "docs":
            return [str(tools() / "tox"), "run", "-e", "docs"]
        case "long" | "attack":
            install(LONG if target == "long" else TESTS)
            build_clients()
            return [str(tools() / "tox"), "run", "-e", target]
        case "bench" | "soak":
            install(TESTS)
            return [str(tools() / "tox"), "run", "-e", target, "--"]
        case "deb":
            build_debs()
            return ["/bin/ls", "-l", str(PROJECT / "build" / "deb")]
        case "demo" | "serve":
            install(DEMO if os.geteuid() == 0 else (*DEMO, *ROOTLESS))
            return [str(project() / "python"), _DEMO, target]
        case _:
            raise SetupError("the target is one of: test check docs long attack bench soak deb demo serve")


if __name__ == "__main__":
    main(sys.argv[1:])
