"""A script in namespaces of its own: what it mounts and starts ends with it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def run_apart(
    enter: str, *arguments: str, environment: Mapping[str, str], timeout: float, more: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a script by sh as root in mount and process namespaces of its own. Blocks.

    Args:
        enter: the script; the first command that fails ends it.
        arguments: its `$1` and so on.
        environment: all of it.
        timeout: seconds.
        more: what else is its own, as options of `unshare`.

    Returns:
        its exit code, and what it has written to either output, as text.

    Raises:
        subprocess.TimeoutExpired: it took longer, and is gone with all it started.
    """
    # The first process of a PID namespace takes all others with it.
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", *more]
    return subprocess.run(
        [*alone, "sh", "-euc", enter, "sh", *arguments],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
