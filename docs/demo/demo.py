#!/usr/bin/env python3
# ruff: noqa: S603, S607 - it starts what its reader would type, found as a shell finds it
"""Shows criimage at work on this machine: `make demo`. Or leaves it running for you to try: `make serve`.

Everything is real and of its own: a registry on a free port with an image made from this machine's busybox, a
containers-storage store in a temporary folder, the server, and the commands as a user types them. When it ends, by
itself, by Ctrl-C or by a failure, nothing of it is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.testing.oci import Config, File, Image, Link, image, layer
from criimage.testing.registry_client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_CRICTL = "crictl"


class DemoError(RuntimeError):
    """The demo cannot go on; the text is all that is shown."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs.

    Attributes:
        endpoint: of the server, `unix:///PATH`.
        image: what to pull.
        server: the server's process.
    """

    endpoint: str
    image: str
    server: subprocess.Popen[bytes]


def main(arguments: list[str]) -> int:
    """Runs the demo.

    Args:
        arguments: `demo` or `serve`.

    Returns:
        0 if every step worked, 1 if not, 130 after Ctrl-C in a demo.
    """
    serving = arguments == ["serve"]
    # Ended by a terminal that closes or by `kill`, it cleans up as after Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with _folder() as folder, _stage(folder) as stage:
            _serve(stage) if serving else _show(stage)
    except KeyboardInterrupt:
        _say("\nStopped; nothing is left behind.")
        return 0 if serving else 130
    except DemoError as error:
        _say(f"\nThe demo failed: {error}")
        return 1
    _say("\nDone; the registry, the server and the store are gone again.")
    return 0


def _show(stage: Stage) -> None:
    at = ["--endpoint", stage.endpoint]
    _step("Who answers on the socket, in which versions of the CRI?", "criimage", "version", *at)
    _step("Pull an image, as kubelet does before it starts a container.", "criimage", "pull", stage.image, *at)
    _step("What is in the store now?", "criimage", "images", *at)
    _step("One image in full: its ID, names, digests, size, user.", "criimage", "inspect", stage.image, *at)
    _step("How much disk the images take; kubelet's garbage collection asks this.", "criimage", "fsinfo", *at)
    if _program(_CRICTL):
        at_crictl = ["--config", os.devnull, "--runtime-endpoint", stage.endpoint, "--image-endpoint", stage.endpoint]
        _step("The same store through Kubernetes' own client.", _CRICTL, *at_crictl, "images", "--digests")
    _step("Remove the image with all its names.", "criimage", "rmi", stage.image, *at)
    _step("And it is gone.", "criimage", "images", *at)


def _serve(stage: Stage) -> None:
    _say(f"\ncriimage listens on {stage.endpoint}\nThe registry has {stage.image}\n\nIn another terminal, for example:")
    criimage = _program("criimage") or "criimage"
    for words in ("version", f"pull {stage.image}", "images", f"inspect {stage.image}", "fsinfo", f"rmi {stage.image}"):
        _say(f"  {criimage} {words} --endpoint {stage.endpoint}")
    if crictl := _program(_CRICTL):
        _say(f"  {crictl} --config /dev/null --runtime-endpoint {stage.endpoint} images")
    _say("\nCtrl-C ends it and deletes everything.")
    code = stage.server.wait()
    raise DemoError(f"the server ended with {code}")


def _step(purpose: str, *command: str) -> None:
    _say(f"\n# {purpose}\n$ {' '.join(command)}")
    program = _program(command[0]) or command[0]
    started = time.monotonic()
    code = subprocess.run([program, *command[1:]], stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise DemoError(f"`{command[0]}` ended with {code}")
    _say(f"  ({time.monotonic() - started:.2f} s)")


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Stage]:
    port = _free_port()
    name = f"127.0.0.1:{port}/demo/web:1.0"
    socket_file = folder / "criimage.sock"
    registry_config, config = _write_configs(folder, port, socket_file)
    _say(f"Starting a registry on 127.0.0.1:{port} and a server on unix://{socket_file}")
    with (
        _running("docker-registry", "serve", str(registry_config), log=folder / "registry.log") as registry,
        _running("criimage", "serve", "--config", str(config), log=folder / "criimage.log") as server,
    ):
        _wait(registry, folder / "registry.log", lambda: _connects(socket.AF_INET, ("127.0.0.1", port)))
        RegistryClient(f"127.0.0.1:{port}").push(_busybox_image(), "demo/web", "1.0", "latest")
        _wait(server, folder / "criimage.log", lambda: _connects(socket.AF_UNIX, str(socket_file)))
        try:
            yield Stage(f"unix://{socket_file}", name, server)
        except DemoError as error:
            raise DemoError(f"{error}\nThe server's log ends with:\n{_tail(folder / 'criimage.log')}") from None


def _busybox_image() -> Image:
    """A small web server: four layers, as a build would make them."""
    found = shutil.which("busybox")
    if not found:
        raise DemoError("busybox is not installed")
    applets = subprocess.run([found, "--list"], capture_output=True, text=True, check=True).stdout.split()
    passwd = b"root:x:0:0:root:/:/bin/sh\nwww:x:8080:8080:www:/www:/bin/false\n"
    page = b"<!doctype html><title>criimage</title><p>Pulled through criimage.\n"
    return image(
        layer({"bin/busybox": File(Path(found).read_bytes(), 0o755)}),
        layer({f"bin/{applet}": Link("busybox") for applet in applets if applet != "busybox"}),
        layer({"etc/passwd": passwd, "etc/group": b"root:x:0:\nwww:x:8080:\n"}),
        layer({"www/index.html": page}),
        config=Config(
            user="8080:8080",
            cmd=("httpd", "-f", "-p", "8080", "-h", "/www"),
            labels={"org.opencontainers.image.title": "criimage demo"},
        ),
    )


def _write_configs(folder: Path, port: int, socket_file: Path) -> tuple[Path, Path]:
    registries = folder / "registries.conf"
    registries.write_text(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n')
    registry: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    registry_config = folder / "registry.yml"
    # JSON is YAML too, and a JSON string is a TOML string as long as it holds plain characters.
    registry_config.write_text(json.dumps(registry))
    # The usual places of credentials may be closed to this user, and the demo needs none.
    auth_file = folder / "auth.json"
    auth_file.write_text(json.dumps({"auths": {}}))
    store = {
        "root": str(folder / "store"),
        "run_root": str(folder / "run"),
        "driver": _driver(folder),
        "registries_conf": str(registries),
        "auth_file": str(auth_file),
        "tmp_dir": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir()
    lines = [f"listen = {json.dumps(f'unix://{socket_file}')}", 'backend = "containers-storage"']
    lines += ["", "[backends.containers-storage]", *(f"{key} = {json.dumps(value)}" for key, value in store.items())]
    config = folder / "config.toml"
    config.write_text("\n".join(lines) + "\n")
    return registry_config, config


def _driver(folder: Path) -> str:
    """`overlay` where this user can mount one in that folder, else `vfs`, which works everywhere and copies more."""
    probe = folder / "probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return "vfs"
    subprocess.run(["umount", str(probe / "merged")], capture_output=True, check=True)
    return "overlay"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="criimage-demo-"))
    try:
        yield folder
    finally:
        with _undisturbed():
            # The overlay driver mounts its own folder on itself and leaves it so.
            mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            for mount in sorted((one for one in mounts if one.startswith(f"{folder}/")), reverse=True):
                subprocess.run(["umount", "--lazy", mount], check=False)
            # An unpacked image has folders that not even their owner may write to; only root need not care.
            for inner, _, _ in os.walk(folder):
                with contextlib.suppress(PermissionError):
                    Path(inner).chmod(0o700)
            shutil.rmtree(folder)


@contextlib.contextmanager
def _running(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = _program(command[0])
    if not program:
        raise DemoError(f"{command[0]} is not installed")
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches this script only, which then ends them in order.
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with _undisturbed():
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not interrupt the cleaning up after the first."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise DemoError(f"it did not start; its log ends with:\n{_tail(log)}")
        time.sleep(0.02)


def _connects(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def _program(name: str) -> str | None:
    """Where a program is: beside this Python, in PATH, or for crictl where the tests' set-up builds it."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    if name == _CRICTL and not shutil.which(name):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return next((str(built) for built in sorted((base / "criimage" / "clients").glob("*/crictl"))), None)
    return shutil.which(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    # The commands write to the same terminal or pipe, and order matters.
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
