"""The demo of `make demo` for another user than root, to whom the machine's own folders of credentials are closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parts.apart import run_apart
from parts.missing import lacking, need, need_root

DEMO = Path(__file__).parents[2] / "docs/demo/demo.py"
BECOME = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

# $1 the folders on the way to interpreter and demo that only their owner may enter: here, and only here, all may.
_ENTER = """
closed=$1
shift
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -m 700 /run/containers
mkdir -m 755 /run/above
for place in $closed; do
    mkdir -p "/run/above/upper$place" "/run/above/work$place"
    mount -t overlay overlay -o "lowerdir=$place,upperdir=/run/above/upper$place,workdir=/run/above/work$place" "$place"
    chmod 711 "$place"
done
install -d -o 65534 -g 65534 /run/home
cd /run/home
exec "$@"
"""


def closed_folders() -> list[Path]:
    """The folders on the way to what is run that other users may not enter, outermost first."""
    places = {place for path in (sys.prefix, sys.base_prefix, DEMO) for place in Path(path).resolve().parents}
    return sorted(place for place in places if not place.stat().st_mode & 1)


@pytest.mark.engine
def test_the_demo_needs_no_folder_of_credentials() -> None:
    """Without XDG_RUNTIME_DIR the tools look for credentials in a folder that may be closed: it works all the same."""
    need("skopeo", "docker-registry", "busybox", "unshare", "setpriv")
    need_root()
    if subprocess.run([*BECOME, "unshare", "--user", "true"], capture_output=True, check=False).returncode:
        lacking("users cannot make user namespaces here")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/run/home",
        "LC_ALL": "C.UTF-8",
    }
    command = (*BECOME, sys.executable, str(DEMO), "demo")
    closed = " ".join(map(str, closed_folders()))
    ended = run_apart(_ENTER, closed, *command, environment=environment, timeout=120)
    assert ended.returncode == 0, ended.stdout
    assert "And it is gone." in ended.stdout
