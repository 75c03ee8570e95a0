"""Signals and limits: a service that ends well, reloads, and leaves no memory on the disk."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from criimage import wire
from criimage.cli import main
from criimage.cri.criimage.v1 import GetStatusResponse
from criimage.cri.runtime.v1 import StatusResponse
from criimage.server import signals
from operating.staged import installed, staged_server
from parts.raw_client import raw_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from parts.criimage_process import Criimage

    Until = Callable[[Callable[[], object]], None]


def document(server: Criimage, *arguments: str) -> Any:  # noqa: ANN401 - any JSON
    """What a client command says as JSON."""
    command = [*arguments, "--output", "json", "--endpoint", server.endpoint]
    return json.loads(CliRunner().invoke(main, command, catch_exceptions=False).stdout)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_well(number: signal.Signals) -> None:
    """Design section 7: exit code 0, the socket and its lock gone, the last line says so."""
    with staged_server() as server:
        server.process.process.send_signal(number)
        code = server.process.process.wait(30)
        left = sorted(path.name for path in server.folder.iterdir())
        last = server.log_text().splitlines()[-1]

    assert code == 0
    assert left == ["config.toml", "log"]
    assert "stopped" in last


@pytest.mark.parametrize("hanging", ["stuck", "frozen"])
def test_what_hangs_in_a_file_does_not_break_the_promise_to_end(
    hanging: str, until: Callable[[Callable[[], object]], None]
) -> None:
    """Within 5 s after SIGTERM, with exit code 0 and nothing left, also when a thread or the loop itself hangs."""
    with staged_server() as server:
        command = [sys.executable, "-m", "criimage", "pull", f"example.com/{hanging}", "--endpoint", server.endpoint]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
            until(lambda: "is stuck" in server.log_text())
            server.stop()
            client.wait(30)
        left = sorted(path.name for path in server.folder.iterdir())
        last = server.log_text().splitlines()[-1]

    assert left == ["config.toml", "log"]
    assert "left by force" in last


def test_a_process_is_left_by_force_in_time() -> None:
    """What the promise of 5 s is made of; a clock would also show how busy the machine is."""
    assert signals.LEAVE_SECONDS + signals._LOG_SECONDS < 5


def test_a_removal_that_hangs_does_not_break_the_promise_to_end(until: Until) -> None:
    """Design section 7: within 5 s after SIGTERM, also when a backend uses all the time that it has for stopping."""
    with staged_server() as server:
        document(server, "pull", "example.com/clinging")
        command = [sys.executable, "-m", "criimage", "rmi", "example.com/clinging", "--endpoint", server.endpoint]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as client:
            until(lambda: "removal has begun" in server.log_text())
            server.stop()
            _, errors = client.communicate(timeout=30)

    assert client.returncode == 1
    assert errors.startswith("Error: ")


def test_pulls_are_cancelled_and_told_so(until: Until) -> None:
    """Design section 7: SIGTERM does not wait for pulls; their callers learn why they ended."""
    with staged_server() as server:
        command = [sys.executable, "-m", "criimage", "pull", "-q", "example.com/stalled", "--endpoint", server.endpoint]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            until(lambda: "pull started" in server.log_text())
            server.stop()
            _, errors = client.communicate(timeout=30)

    assert client.returncode == 1
    assert errors == "Error: the image service is stopping\n"


@pytest.mark.parametrize("times", [2, 20])
def test_signals_may_come_often(times: int) -> None:
    """An impatient operator's second Ctrl-C makes no traceback and leaves no socket."""
    with staged_server() as server:
        for _ in range(times):
            server.process.process.send_signal(signal.SIGINT)
        server.process.process.wait(30)  # the last one may come when Python is on its way out and handles none
        assert not server.socket.exists()
        assert "stopped" in server.log_text()
        assert "Traceback" not in server.log_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_very_start_leaves_nothing(tmp_path: Path, number: signal.Signals, until: Until) -> None:
    """As soon as the socket is there a SIGTERM ends the service well, and a SIGHUP does not end it."""
    place = tmp_path / "s.sock"
    command = [sys.executable, "-m", "criimage", "serve", "--backend", "staged", "--listen", f"unix://{place}"]
    with (
        installed() as environment,
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log) as process,
    ):
        until(place.exists)
        process.send_signal(number)
        if number == signal.SIGHUP:
            until(lambda: "settings reloaded" in (tmp_path / "log").read_text() or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
        code = process.wait(30)

    assert (code, [path.name for path in tmp_path.iterdir()]) == (0, ["log"])


def test_sighup_reads_the_settings_again(until: Until) -> None:
    """Ecosystem, reload: log level and pins change while running, the service goes on."""
    with staged_server() as server:
        document(server, "pull", "example.com/demo")
        assert document(server, "images")["images"][0]["pinned"] is False
        assert "debug" not in server.log_text()

        server.config.write_text('backend = "staged"\npinned_images = ["*demo*"]\n[log]\nlevel = "debug"\n')
        server.reload()
        until(lambda: "settings reloaded" in server.log_text())

        assert document(server, "images")["images"][0]["pinned"] is True
        assert document(server, "inspect", "example.com/demo")["pinned"] is True
        until(lambda: "[debug" in server.log_text())

        server.config.write_text('backend = "staged"\n')
        server.reload()
        until(lambda: server.log_text().count("settings reloaded") == 2)
        assert document(server, "images")["images"][0]["pinned"] is False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('backend = "staged"\npinned_images = []\nbakend = 1\n', "bakend: no such key"),
        ('backend = "staged"\npinned_images = \n', ", line 2, column 17: no value that TOML knows"),
        ('backend = "staged"\n[log]\nlevel = "loud"\n', "log.level"),
        (None, "No such file or directory"),
    ],
)
def test_an_invalid_file_keeps_the_old_settings(until: Until, text: str | None, told: str) -> None:
    """Ecosystem, reload: nothing of it is taken, the log says what is wrong and where, the service goes on."""
    with staged_server('pinned_images = ["*demo*"]\n') as server:
        document(server, "pull", "example.com/demo")
        if text is None:
            server.config.unlink()
        else:
            server.config.write_text(text)
        server.reload()
        until(lambda: "the old ones stay" in server.log_text())

        assert document(server, "images")["images"][0]["pinned"] is True
        assert told in server.log_text()
        assert str(server.config) in server.log_text()


def test_no_core_dump_can_hold_a_secret() -> None:
    """Design section 4: RLIMIT_CORE is 0, hard and soft, in the running process."""
    with staged_server() as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()

    (core,) = (line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def test_as_many_descriptors_as_the_machine_gives_are_taken() -> None:
    """Issue 8, item 6: the soft limit is raised to the hard one at the start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        with staged_server() as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_socket_is_for_its_group_only() -> None:
    """Ecosystem, conventions: 0660."""
    with staged_server() as server:
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o660


def test_a_taken_socket_is_a_configuration_error() -> None:
    """Design section 7: exit code 2 and one line; the first server stays as it was."""
    with staged_server() as server, installed() as environment:
        second = subprocess.run(
            [sys.executable, "-m", "criimage", "serve", "--backend", "staged", "--listen", server.endpoint],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert document(server, "images") == {"images": []}

    assert second.returncode == 2
    assert second.stderr == f"Error: {server.socket} is in use by another criimage, which holds {server.socket}.lock\n"


def test_status_says_what_is_wrong_and_ends_with_it() -> None:
    """Exit code 0 while all is well; 1 with the problem, its source and its remedy, as text and as JSON."""
    with staged_server() as server:
        well = CliRunner().invoke(main, ["status", "--endpoint", server.endpoint])
    with staged_server("[backends.staged]\nproblem = 'no disk'") as server:
        ill = CliRunner().invoke(main, ["status", "--endpoint", server.endpoint])
        told = CliRunner().invoke(main, ["status", "--output", "json", "--endpoint", server.endpoint])

    assert well.exit_code == 0
    assert "serving" in well.stdout
    assert "staged" in well.stdout
    assert (ill.exit_code, told.exit_code) == (1, 1)
    assert "problem:  backend: no disk (do something)" in ill.stdout
    found = json.loads(told.stdout)
    assert found["serving"] is False
    assert found["problems"] == [{"source": "backend", "text": "no disk", "remedy": "do something"}]
    assert found["settings"]["backend"] == "staged"


def test_the_settings_in_force_are_told_after_a_reload_too(until: Until) -> None:
    """A verbose Status and our own show what counts: what a reload has changed, and what waits for a restart as it was.

    On both versions of Status; the limits of a registry come and go with their table.
    """
    with staged_server() as server:

        def told() -> list[dict[str, Any]]:
            return asyncio.run(_settings_told(server.socket))

        (before, *others) = told()
        assert others == [before, before]
        server.config.write_text(
            'backend = "staged"\npinned_images = ["pause*"]\n[pulls]\nmax_parallel = 3\n'
            '[pulls.registry."a.io"]\nmax_parallel = 1\n[limits]\nconnections = 77\n[log]\nlevel = "debug"\n'
        )
        server.reload()
        until(lambda: "settings reloaded" in server.log_text())
        (after, *others) = told()
        assert others == [after, after]
        assert after["pulls"]["registry"].keys() == {"a.io"}
        expected = {
            **before,
            "pinned_images": ["pause*"],
            "pulls": {**before["pulls"], "max_parallel": 3, "registry": after["pulls"]["registry"]},
            "log": {**before["log"], "level": "debug"},
        }
        assert after == expected
        server.config.write_text('backend = "staged"\n')
        server.reload()
        until(lambda: server.log_text().count("settings reloaded") == 2)
        assert told() == [before] * 3


async def _settings_told(path: Path) -> list[dict[str, Any]]:
    async with raw_client(path) as client:
        status = GetStatusResponse().parse(bytes((await client.call("/criimage.v1.StatusService/GetStatus")).data[5:]))
        found = [status.settings]
        for version in ("v1", "v1alpha2"):
            answer = await client.call(f"/runtime.{version}.RuntimeService/Status", wire.varint_field(1, 1))
            found.append(StatusResponse().parse(bytes(answer.data[5:])).info["config"])
    return [json.loads(text) for text in found]


def test_a_reload_names_what_changed_and_what_needs_a_restart(until: Until) -> None:
    """Keys by name, never values: those that count from now on, and those that wait; none of either is none."""
    with staged_server() as server:
        server.config.write_text('backend = "staged"\n[pulls]\nmax_parallel = 3\n[limits]\nconnections = 77\n')
        server.reload()
        until(lambda: "settings reloaded" in server.log_text())
        (line,) = [line for line in server.log_text().splitlines() if "settings reloaded" in line]
        assert "changed=['pulls.max_parallel']" in line
        assert "needs_restart=['limits.connections']" in line
        assert "77" not in line.partition(" ")[2]  # the time may have any digits

        server.reload()
        until(lambda: server.log_text().count("settings reloaded") == 2)
        last = [line for line in server.log_text().splitlines() if "settings reloaded" in line][-1]
        assert "changed=[]" in last
        assert "needs_restart=['limits.connections']" in last

        server.config.write_text('backend = "staged"\n')
        server.reload()
        until(lambda: server.log_text().count("settings reloaded") == 3)
        last = [line for line in server.log_text().splitlines() if "settings reloaded" in line][-1]
        assert "changed=['pulls.max_parallel']" in last
        assert "needs_restart=[]" in last
