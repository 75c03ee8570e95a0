"""Metrics: every series from the start, counts that fit what happened, and an address that is said plainly."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from prometheus_client import generate_latest

from criimage import errors, logs
from criimage.cli import main
from criimage.metrics import PrometheusMetrics, error_kinds
from criimage.metrics.page import CLIENTS_LIMIT, serve_metrics
from documentation.pages import code, page, rows, sections
from operating.staged import installed, staged_server
from parts.child import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from parts.criimage_process import Criimage

    Until = Callable[[Callable[[], object]], None]

OPERATIONS = {"ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo", "Version", "Status", "unknown"}


def scrape(address: str) -> dict[str, float]:
    """Every sample at an address, by its name and labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def sample(name: str, **labels: str) -> str:
    """A sample's name with its labels, as it is written."""
    pairs = ",".join(f'{label}="{value}"' for label, value in sorted({"backend": "staged", **labels}.items()))
    return f"{name}{{{pairs}}}"


def ask(server: Criimage, *arguments: str) -> int:
    """Run a client command; return its exit code."""
    return CliRunner().invoke(main, [*arguments, "--endpoint", server.endpoint]).exit_code


def test_every_series_is_there_from_the_start() -> None:
    """Design section 7: nothing appears only after it first happened, so that alerts can compare with 0."""
    address = f"127.0.0.1:{free_port()}"
    with staged_server(arguments=["--set", f"metrics.address={address}"]) as server:
        first = scrape(address)
        for command in (["pull", "-q", "example.com/demo"], ["pull", "-q", "no/pe"], ["images"], ["rmi", "x.io/x"]):
            ask(server, *command)
        later = scrape(address)

    operations = {found[1] for name in first if (found := re.search(r'operations_total.*operation="(\w+)"', name))}
    assert operations >= OPERATIONS
    for operation in operations:
        assert first[sample("criimage_operations_total", operation=operation)] == 0
        for kind in error_kinds():
            assert first[sample("criimage_operations_errors_total", operation=operation, kind=kind)] == 0
    assert set(later) == set(first)
    assert all(name.startswith(("criimage_", "python_", "process_")) for name in first)


def test_calls_are_counted_by_operation_and_kind() -> None:
    """Ecosystem, metrics: totals, errors by kind and times, with the backend's name and never an image's."""
    address = f"127.0.0.1:{free_port()}"
    with staged_server(arguments=["--set", f"metrics.address={address}"]) as server:
        assert ask(server, "pull", "-q", "example.com/demo") == 0
        assert ask(server, "pull", "-q", "example.com/nope") == 1
        assert ask(server, "pull", "-q", "example.com/private") == 1
        assert ask(server, "pull", "-q", "example.com/faulty") == 1
        assert ask(server, "pull", "-q", "Upper") == 1
        assert ask(server, "images") == 0
        found = scrape(address)

    def errors_of(kind: str) -> float:
        return found[sample("criimage_operations_errors_total", operation="PullImage", kind=kind)]

    assert found[sample("criimage_operations_total", operation="PullImage")] == 5
    assert found[sample("criimage_operations_total", operation="ListImages")] == 1
    assert found[sample("criimage_operations_latency_seconds_count", operation="PullImage")] == 5
    counted = {kind: errors_of(kind) for kind in error_kinds() if errors_of(kind)}
    assert counted == {"not_in_registry": 1, "access_denied": 1, "failed": 1, "invalid_request": 1}
    assert found[sample("criimage_pulls_success_total")] == 1
    assert found[sample("criimage_pulls_failures_total", kind="not_in_registry")] == 1
    assert not any("example.com" in name for name in found)


def test_connections_and_lists_are_counted(until: Until) -> None:
    """What is connected now, what was answered from what is kept, and whether the backend is ready."""
    address = f"127.0.0.1:{free_port()}"
    with staged_server(arguments=["--set", f"metrics.address={address}"]) as server:
        before = scrape(address)
        for _ in range(3):
            assert ask(server, "images") == 0
        found = scrape(address)
        channel = socket.socket(socket.AF_UNIX)
        with channel:
            channel.connect(server.endpoint.removeprefix("unix://"))
            until(lambda: scrape(address)[sample("criimage_connections")] == 1)

    assert before[sample("criimage_connections")] == 0
    assert before[sample("criimage_backend_ready")] == 1
    lists = [found[sample("criimage_lists_total", cache=result)] for result in ("hit", "miss")]
    assert sum(lists) == 3
    assert lists[1] >= 1


def test_the_names_of_others_have_the_same_figures() -> None:
    """`[metrics] aliases`: every name of the page's table, with our figures; without the key there is none of them."""
    metrics = PrometheusMetrics("staged", ["ListImages", "PullImage"], ["failed"], aliases=True)
    metrics.observe("ListImages", 0.5, None)
    metrics.observe("PullImage", 2, "failed")
    metrics.pull_ended(2, 30, "pulled")
    metrics.pull_ended(2, 4, "failed")
    metrics.layers(2, 3)
    metrics.pulls_running(7)
    page_text = generate_latest(metrics.registry).decode()
    found = {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in page_text.splitlines() if line[:1] != "#")
    }

    crio, containerd = "container_runtime_crio", "containerd_cri_sandboxed"
    wanted = {
        f'{crio}_operations_total{{operation="PullImage"}}': 1,
        f'{crio}_operations_errors_total{{operation="PullImage"}}': 1,
        f'{crio}_operations_errors_total{{operation="ListImages"}}': 0,
        f'{crio}_operations_latency_seconds_total_count{{operation="PullImage"}}': 1,
        f'{crio}_operations_latency_seconds_total_sum{{operation="PullImage"}}': 2,
        f"{crio}_image_pulls_success_total": 1,
        f'{crio}_image_pulls_failure_total{{error="failed"}}': 1,
        f"{crio}_image_pulls_bytes_total": 34,
        f"{crio}_image_layer_reuse_total": 3,
        f'{containerd}_image_pulls_total{{status="success"}}': 1,
        f'{containerd}_image_pulls_total{{status="failure"}}': 1,
        f"{containerd}_in_progress_image_pulls_total": 7,
    }
    assert {name: found[name] for name in wanted} == wanted
    table = rows(sections(page("reference/metrics"))["The names of others"])
    families = {name.partition("{")[0].removesuffix("_count").removesuffix("_sum") for name in wanted}
    assert {code(row[0])[0] for row in table} == families
    plain = generate_latest(_metrics().registry).decode().splitlines()
    assert not [line for line in plain if line.startswith("container")]


def test_a_kind_that_is_not_known_beforehand_does_not_exist() -> None:
    """Design section 7: every error class has its series; the list is made from the classes themselves."""
    assert {getattr(errors, name).kind for name in errors.__all__} <= set(error_kinds())


def test_dropped_log_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 8, item 3: the figure is the queue's."""
    monkeypatch.setattr(logs, "dropped", lambda: 7)
    page_text = generate_latest(_metrics().registry).decode()
    assert f"{sample('criimage_log_lines_dropped_total')} 7.0" in page_text.splitlines()


def test_a_pull_under_way_is_counted(until: Until) -> None:
    """Ecosystem, metrics: pulls in progress go up and down again."""
    address = f"127.0.0.1:{free_port()}"
    with staged_server(arguments=["--set", f"metrics.address={address}"]) as server:
        command = [sys.executable, "-m", "criimage", "pull", "-q", "example.com/stalled", "--endpoint", server.endpoint]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
            until(lambda: scrape(address)[sample("criimage_pulls_in_progress")] == 1)
            client.terminate()
        until(lambda: scrape(address)[sample("criimage_pulls_in_progress")] == 0)


def _metrics() -> PrometheusMetrics:
    return PrometheusMetrics("staged", ["ListImages"], ["internal"])


async def test_an_ipv6_address_is_served() -> None:
    """Design section 7: HOST:PORT with the host in brackets."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = probe.getsockname()[1]

    async with serve_metrics(f"[::1]:{port}", _metrics()):
        found = await asyncio.to_thread(scrape, f"[::1]:{port}")
        assert found[sample("criimage_operations_total", operation="ListImages")] == 0


async def test_the_port_is_free_again_afterwards() -> None:
    """A second server in the same process can serve at once."""
    address = f"127.0.0.1:{free_port()}"
    for _ in range(2):
        async with serve_metrics(address, _metrics()):
            assert await asyncio.to_thread(scrape, address)


async def test_nobody_else_can_reach_a_local_address() -> None:
    """Ecosystem, libraries: prometheus-client listens on every address by default; only the given one is used."""
    address = f"127.0.0.1:{free_port()}"
    async with serve_metrics(address, _metrics()):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", int(address.rpartition(":")[2]))


async def raw_answer(address: str, request: bytes) -> bytes:
    """Send bytes to the page and return all that comes back."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(request)
    found = await reader.read()
    writer.close()
    return found


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /metrics HTTP/1.1", 200),
        ("GET /metrics?name=x HTTP/1.0", 200),
        ("HEAD /metrics HTTP/1.1", 200),
        ("POST /metrics HTTP/1.1", 405),
        ("GET / HTTP/1.1", 404),
        ("GET /metrics/ HTTP/1.1", 404),
        ("GET /../metrics HTTP/1.1", 404),
        ("", 404),
        ("GET /metrics?" + "x" * 20_000 + " HTTP/1.1", 431),
    ],
)
async def test_the_page_is_at_its_path_only(request_line: str, status: int) -> None:
    """Whatever is asked, it has its answer."""
    address = f"127.0.0.1:{free_port()}"
    async with serve_metrics(address, _metrics()):
        answer = await raw_answer(address, f"{request_line}\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode()
    assert bool(body) == (not request_line.startswith("HEAD"))


@pytest.mark.parametrize("kind", ["application/openmetrics-text; version=new", "text/plain;version=1.x", "\xb2/;=,;"])
async def test_whatever_a_client_accepts_it_gets_the_page(kind: str) -> None:
    """A version that is no number makes prometheus-client 0.26 raise, and whoever sent it got nothing."""
    address = f"127.0.0.1:{free_port()}"
    async with serve_metrics(address, _metrics()), asyncio.timeout(30):
        request = f"GET /metrics HTTP/1.1\r\nAccept: {kind}\r\n\r\n"
        assert b"200 OK" in await raw_answer(address, request.encode("latin-1"))


async def test_a_page_that_cannot_be_made_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fault there is in it, the client is hung up on, which before Python 3.11.7 nobody else does."""
    metrics, address = _metrics(), f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(metrics, "registry", None)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with serve_metrics(address, metrics), asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            assert await raw_answer(address, b"GET /metrics HTTP/1.1\r\n\r\n") == b""


async def test_clients_of_the_page_have_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond it are told at once; when others have left there is room again."""
    monkeypatch.setattr("criimage.metrics.page.CLIENT_SECONDS", 600.0)
    address = f"127.0.0.1:{free_port()}"
    async with serve_metrics(address, _metrics()), asyncio.timeout(30):
        silent = [await asyncio.open_connection(*address.split(":")) for _ in range(CLIENTS_LIMIT)]
        assert b"503" in await raw_answer(address, b"")
        for _, writer in silent:
            writer.close()
        answer = b""
        while b"200 OK" not in answer:  # a request that nobody reads any more is a reset
            with contextlib.suppress(ConnectionError):
                answer = await raw_answer(address, b"GET /metrics HTTP/1.1\r\n\r\n")


async def test_clients_of_the_page_have_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ask nothing are cut off, and leave their places."""
    monkeypatch.setattr("criimage.metrics.page.CLIENT_SECONDS", 0.05)
    address = f"127.0.0.1:{free_port()}"
    async with serve_metrics(address, _metrics()), asyncio.timeout(30):
        for reader, writer in [await asyncio.open_connection(*address.split(":")) for _ in range(CLIENTS_LIMIT)]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        monkeypatch.setattr("criimage.metrics.page.CLIENT_SECONDS", 600.0)
        assert b"200 OK" in await raw_answer(address, b"GET /metrics HTTP/1.1\r\n\r\n")


def _serve(tmp_path: object, address: str) -> subprocess.CompletedProcess[str]:
    with installed() as environment:
        return subprocess.run(
            [
                *(sys.executable, "-m", "criimage", "serve", "--backend", "staged"),
                *("--listen", f"unix://{tmp_path}/s.sock", "--set", f"metrics.address={address}"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.0.0.1:", ":1", "127.0.0.1:99999", "127.0.0.1:http"])
def test_a_malformed_address_is_a_configuration_error(tmp_path: object, address: str) -> None:
    """Design section 7: exit code 2, with the key and the expected form."""
    ended = _serve(tmp_path, address)

    assert ended.returncode == 2
    assert ended.stderr == "Error: flag for metrics.address: not of the form HOST:PORT\n"


def test_an_address_that_cannot_be_used_is_a_configuration_error(tmp_path: object) -> None:
    """Design section 7: taken by another process, or of no interface here; exit code 2 and the address in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses = [f"127.0.0.1:{taken.getsockname()[1]}", "192.0.2.1:9477", "[2001:db8::1]:9477", "no.invalid:9477"]
        for address in addresses:
            ended = _serve(tmp_path, address)

            assert ended.returncode == 2, ended.stderr
            assert ended.stderr.splitlines()[-1].startswith(
                f"Error: flag for metrics.address: metrics cannot be served at {address}: "
            )
            assert "Traceback" not in ended.stderr
