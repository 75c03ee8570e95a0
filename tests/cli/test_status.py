"""Claims: `criimage status` tells health, settings, runtime and backend, and what else answers at a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.command import fail, run, succeed
from criimage import __version__
from operating.staged import staged_server
from parts.containerd import containerd
from parts.criimage_process import criimage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """The endpoint of a containerd."""
    with containerd() as running:
        yield running.endpoint


def _rows(text: str) -> list[tuple[str, str]]:
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines())]


def test_settings_that_are_not_the_default_are_shown() -> None:
    """Each with its dotted key and value, a backend's own too, secrets masked; one that is as it would be is not."""
    config = """
[pulls]
max_parallel = 3
remove_timeout = "100s"
[pulls.registry."docker.io"]
max_parallel = 2
[backends.staged]
token = "c4n4ry"
"""
    with staged_server(config) as server:
        text = succeed("status", "--endpoint", server.endpoint)

    rows = _rows(text)
    assert rows[:2] == [("health", "serving"), ("version", __version__)]
    assert ("backend", "staged") in rows
    assert ("runtime", "none: image service only") in rows
    assert ("listen", server.endpoint) in rows
    settings = [value for name, value in rows if name == "setting"]
    assert "pulls.max_parallel = 3" in settings
    assert 'pulls.registry."docker.io".max_parallel = 2' in settings
    assert any(value.startswith("backends.staged.token = ") for value in settings), "not installed here: all are shown"
    assert [value for value in settings if "remove_timeout" in value or value.startswith(("listen", "backend "))] == []
    assert "c4n4ry" not in text


def test_a_server_with_defaults_has_no_settings_to_show() -> None:
    """Of its backend neither, where that is installed here."""
    with criimage('backend = "memory"') as server:
        rows = _rows(succeed("status", "--endpoint", server.endpoint))

    assert [name for name, _ in rows] == ["health", "version", "backend", "runtime", "listen"]


def test_the_runtime_is_told_by_name_and_its_loss_too() -> None:
    """Asked on the same socket, where it is relayed; one that does not answer is a row, a problem, and exit code 1."""
    with criimage('backend = "memory"') as runtime:
        config = f'backend = "memory"\n[runtime]\nendpoint = "{runtime.endpoint}"'
        with criimage(config) as server:
            rows = dict(_rows(succeed("status", "--endpoint", server.endpoint)))
            assert rows["runtime"] == f"criimage {__version__} at {runtime.socket}"
            assert rows["setting"] == f'runtime.endpoint = "{runtime.endpoint}"'

            runtime.stop()
            server.wait_for_log("cannot reach")
            ended = run("status", "--endpoint", server.endpoint)
            assert ended.returncode == 1
            rows = dict(_rows(ended.stdout))
            assert rows["health"] == "not serving"
            assert rows["runtime"].startswith(f"{runtime.socket}, which does not answer: cannot reach")
            assert rows["problem"].startswith("runtime: cannot reach")


@pytest.mark.engine
@pytest.mark.parametrize(
    "command",
    [["status"], ["pulls"], ["pulls", "--watch"], ["pulls", "cancel", "1"], ["removals"], ["removals", "cancel", "1"]],
)
def test_another_service_is_told_by_its_name(other: str, command: list[str]) -> None:
    """What only criimage has is not asked of containerd in vain: the line says who answers."""
    line = fail(*command, "--endpoint", other, code=1)

    assert line.startswith("containerd 1.")
    assert line.endswith(": it is not criimage, or an older one")
