"""Traces: a span a call and a pull with its phases, in the caller's trace, passed on; nothing where not wanted."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from structlog.testing import capture_logs

from criimage import tracing
from criimage.channel import CallError, Channel
from criimage.cli import main
from criimage.errors import ConfigurationError
from criimage.settings import TracingSettings, read_layers
from criimage.tracing_otlp import STATE_LIMIT, VALUE_LIMIT, OtlpTraces, fault, open_traces
from criimage_cri.content import ContentService
from criimage_cri.upstream import Upstream
from criimage_docker.engine.address import Address
from criimage_docker.engine.api import Engine
from operating.collector import attributes, collector
from operating.staged import CANARY, OWNER, staged_server
from parts.raw_client import raw_client
from parts.serving import serving
from server.methods import LIST, PULL, RUNTIME, STATUS, field, spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from parts.criimage_process import Criimage

    Until = Callable[[Callable[[], object]], None]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=opaque"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
PULL_NAME = "runtime.v1.ImageService/PullImage"
LIST_NAME = "runtime.v1.ImageService/ListImages"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    yield
    tracing.use(None)


def call(server: Criimage, path: str, request: bytes = b"", headers: Mapping[str, str] | None = None) -> int | None:
    """Make one call; return its status."""

    async def ask() -> int | None:
        async with raw_client(server.socket) as client:
            return (await client.call(path, request, headers)).status

    return asyncio.run(ask())


def table(endpoint: str, more: str = "") -> str:
    return f'[tracing]\nendpoint = "{endpoint}"\n{more}\n'


def test_a_call_a_pull_and_its_phases_are_in_the_callers_trace() -> None:
    """Issue 14 B: traceparent is read, the pull hangs below the call, phases below the pull; all of it at SIGTERM."""
    with collector() as taken, staged_server(table(taken.endpoint)) as server:
        assert call(server, PULL, spec("example.com/demo"), SAMPLED) == 0
        assert call(server, PULL, spec("example.com/faulty")) == 2
        assert call(server, LIST) == 0
        assert call(server, LIST, headers=SAMPLED) == 0
        server.stop()
        assert taken.resource()["service.name"] == "criimage"
        spans = taken.spans()
    assert set(taken.paths) == {"/v1/traces"}
    by_id = {span.span_id: span for span in spans}
    good, bad = (span for span in spans if span.name == "pull")
    if attributes(bad)["criimage.pull.outcome"] == "pulled":
        good, bad = bad, good
    called = by_id[good.parent_span_id]
    assert (called.name, called.trace_id.hex(), called.parent_span_id.hex()) == (PULL_NAME, TRACE, PARENT)
    assert called.trace_state == "vendor=opaque"
    assert attributes(called) | {"criimage.pull.id": "1"} == attributes(called)
    assert attributes(called)["rpc.grpc.status_code"] == 0
    known = attributes(good)
    assert known["criimage.pull.reference"] == "example.com/demo"
    assert known["criimage.pull.resolved"] == "example.com/demo:latest"
    assert known["criimage.pull.outcome"] == "pulled"
    phases = [span for span in spans if span.parent_span_id == good.span_id]
    assert {span.trace_id.hex() for span in phases} == {TRACE}
    assert "pull queued" in {span.name for span in phases}
    assert len(phases) > 1
    # One of them may begin and end within a tick of the clock.
    times = sorted((span.start_time_unix_nano, span.end_time_unix_nano) for span in phases)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(times))
    assert bad.status.code == 2
    assert attributes(by_id[bad.parent_span_id])["criimage.error.kind"] == "failed"
    lists = [span for span in spans if span.name == LIST_NAME]
    assert sorted(span.parent_span_id.hex() for span in lists) == ["", PARENT]


def test_what_a_caller_has_begun_is_kept_as_it_says() -> None:
    """With a ratio of 0 nothing of ours is sent, what is sampled upstream is, and what is not never."""
    with collector() as taken, staged_server(table(taken.endpoint, "sample_ratio = 0")) as server:
        for headers in (None, NOT_SAMPLED, SAMPLED, {"traceparent": "nonsense"}):
            assert call(server, LIST, headers=headers) == 0
        server.stop()
        assert [span.parent_span_id.hex() for span in taken.spans()] == [PARENT]


def test_no_secret_is_in_a_span(until: Until) -> None:
    """Credentials, wrong ones, and a backend's own secret: none is an attribute, an event or a status text."""
    with collector() as taken:
        config = f'{table(taken.endpoint)}[backends.staged]\ntoken = "{CANARY}"\n'
        with staged_server(config) as server:
            auth = field(2, field(1, OWNER.username) + field(2, OWNER.password))
            wrong = field(2, field(1, f"{CANARY}-x") + field(2, f"{CANARY}-y"))
            assert call(server, PULL, spec("example.com/private") + auth, SAMPLED) == 0
            assert call(server, PULL, spec("example.com/private") + wrong, SAMPLED) != 0
            server.stop()
        assert len([span for span in taken.spans() if span.name == "pull"]) == 2
        assert not any(CANARY.encode() in body for body in taken.bodies)


def test_a_collector_that_hangs_holds_nobody_up(until: Until) -> None:
    """Calls go on, the queue has a bound, and SIGTERM ends within 5 s although nothing was delivered."""
    with collector() as taken:
        taken.answers.clear()
        with staged_server(table(taken.endpoint)) as server:
            assert call(server, LIST) == 0
            until(lambda: taken.paths)  # it hangs now, in the SDK's thread
            assert call(server, PULL, spec("example.com/demo")) == 0
            server.stop()


def test_a_collector_that_is_not_there_is_told_once(until: Until) -> None:
    """One line when spans cannot be delivered, whatever is lost after that, with what the exporter found."""
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
    with staged_server(table("http://127.0.0.1:1"), environment=quick) as server:
        for _ in range(3):
            assert call(server, LIST) == 0
            until(lambda: "traces cannot be delivered" in server.log_text())
        server.stop()
        log = server.log_text()
    assert log.count("traces cannot be delivered") == 1
    assert "Failed to export spans" in log
    assert "Traceback" not in log


def test_what_lets_us_in_is_in_no_log(until: Until) -> None:
    """A collector that refuses and sends back what it got: its words are in the log, and no header's value."""
    secrets = "x-key=canary.one,authorization=Custom%20canary%2Ftwo"
    with collector() as taken:
        taken.status = 403
        quick = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_EXPORTER_OTLP_HEADERS": secrets}
        with staged_server(table(taken.endpoint), environment=quick) as server:
            assert call(server, LIST) == 0
            until(lambda: "traces cannot be delivered" in server.log_text())
            server.stop()
            log = server.log_text()
    assert "refused: " in log
    assert "canary" not in log


async def test_lost_spans_are_counted_and_long_values_cut(until: Until) -> None:
    """What the collector refuses counts; an attribute has a bound, and a tracestate that is too long is not read."""
    with collector() as taken:
        made = OtlpTraces(TracingSettings(endpoint=f"{taken.endpoint}/v1/traces"))
        headers = {"traceparent": SAMPLED["traceparent"], "tracestate": f"a={'b' * STATE_LIMIT}"}
        span = made.call("x", {"long": "y" * VALUE_LIMIT * 2}, lambda name: headers.get(name, ""))
        span.end("e" * VALUE_LIMIT * 2)
        await asyncio.to_thread(made.finish)
        (found,) = taken.spans()
        assert found.trace_state == ""
        assert len(attributes(found)["long"]) == VALUE_LIMIT
        assert len(found.status.message) <= VALUE_LIMIT
        assert made.lost() == 0
    made = OtlpTraces(TracingSettings(endpoint="http://127.0.0.1:1"))
    made.alone("x", {}).end()
    made.stop()
    await asyncio.to_thread(until, lambda: made.lost() == 1)


def test_nothing_is_loaded_or_made_without_a_collector() -> None:
    """Off unless set: the server's modules load no OpenTelemetry, and a context has no span and no headers."""
    code = "import sys, criimage.server.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
    assert open_traces(TracingSettings(), {}) is None
    assert (tracing.traces(), tracing.outgoing(), tracing.lost()) == (None, {}, 0)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({}, False),
    ],
)
def test_the_standards_variables_count(environment: dict[str, str], wanted: bool) -> None:
    """Where the settings say nothing OTEL_* decides; a protocol that is not spoken is told and makes no traces."""
    made = open_traces(TracingSettings(), environment)
    assert (made is not None) == wanted
    if made is not None:
        made.finish()
    with capture_logs() as logs:
        assert open_traces(TracingSettings(), {**environment, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) is None
    assert [line["event"] for line in logs] == ["no traces are made"] * wanted


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config check` and `serve` say what to install where a table wants traces; variables alone only warn."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    settings = TracingSettings(endpoint="http://127.0.0.1:4318")
    with pytest.raises(ConfigurationError, match=r"install criimage\[tracing\]") as caught:
        open_traces(settings, {})
    assert caught.value.setting == ("tracing", "endpoint")
    # There is a criimage on no index: what works from a clone is said as well.
    assert fault(settings, {}).endswith("install criimage[tracing]; in a clone of it: pip install '.[tracing]'")
    assert open_traces(TracingSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
    config = tmp_path / "config.toml"
    config.write_text(f'backend = "memory"\n{table("http://127.0.0.1:4318")}')
    found = CliRunner().invoke(main, ["config", "check", "--config", str(config)])
    assert (found.exit_code, "criimage[tracing]" in found.stderr) == (2, True)
    assert f"{config}, line 3: tracing.endpoint: " in found.stderr


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4318", "ftp://x", "http://", "http://h:x", "http://h?a=b", "http://u:p4ss@h", "http://[::1"]
)
def test_an_endpoint_is_a_url_without_secrets(tmp_path: Path, endpoint: str) -> None:
    """What cannot be one is told with its key, and never printed: it may hold a password."""
    config = tmp_path / "config.toml"
    config.write_text(table(endpoint))
    with pytest.raises(ConfigurationError) as caught:
        read_layers(config, [], {}).settings()
    assert "tracing.endpoint: " in caught.value.text
    assert "p4ss" not in caught.value.text


class Noted:
    """Traces that only note the trace that each call came with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []

    def call(self, name: str, _attributes: object, header: Callable[[str], str]) -> NotedSpan:
        """Note it."""
        self.calls.append((name, header("traceparent"), header("tracestate")))
        return NotedSpan()

    def alone(self, _name: str, _attributes: object) -> NotedSpan:
        """Begin."""
        return NotedSpan()

    def stop(self) -> None:
        """Do nothing."""

    def lost(self) -> int:
        """None."""
        return 0


class NotedSpan:
    """A span with headers of its own."""

    def child(self, _name: str, _attributes: object) -> NotedSpan:
        """Begin."""
        return self

    def tell(self, _attributes: object) -> None:
        """Do nothing."""

    def happened(self, _name: str, _attributes: object) -> None:
        """Do nothing."""

    def end(self, _error: str = "") -> None:
        """Do nothing."""

    def headers(self) -> dict[str, str]:
        """A fixed one."""
        return {"traceparent": f"00-{TRACE}-{'c' * 16}-01"}


async def test_a_runtime_gets_the_callers_trace_byte_for_byte(tmp_path: Path) -> None:
    """relay-and-cri.md: metadata goes on as it came, also where we make a span of the call."""
    tracing.use(noted := Noted())
    (tmp_path / "up").mkdir()
    async with (
        serving(tmp_path / "up") as upstream,
        serving(tmp_path, runtime={"endpoint": f"unix://{upstream.path}"}) as at,
        raw_client(at.path) as client,
    ):
        odd = {"traceparent": "00-nonsense", "tracestate": "a=b,,c=d"}
        for headers in (SAMPLED, odd):
            noted.calls.clear()
            assert (await client.call(RUNTIME[0], field(1, "v1"), headers)).status == 0
            seen = [one for one in noted.calls if one[1]]
            assert seen == [("runtime.v1.RuntimeService/Version", headers["traceparent"], headers["tracestate"])] * 2


async def test_an_upstream_runtime_is_told_the_trace(tmp_path: Path) -> None:
    """Backend cri: the span of the call or pull goes on as metadata; without one there is none."""
    tracing.use(noted := Noted())
    async with serving(tmp_path) as upstream, Channel(upstream.path) as channel:
        asking = Upstream(channel, 10, ContentService(channel))
        await asking.images("ListImages", b"")
        tracing.enter(NotedSpan())
        await asking.images("ListImages", b"")
        with pytest.raises(CallError):
            await asking.pull(spec("example.com/no/such"))
    assert [told for _, told, _ in noted.calls] == ["", *[NotedSpan().headers()["traceparent"]] * 2]


async def test_an_engine_is_told_the_trace(tmp_path: Path) -> None:
    """Backend docker: every kind of request has the header of the current span; without traces none."""
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.path.rpartition("/")[2], request.headers.get("traceparent")))
        body: object = [] if request.path.endswith("json") else {}
        return web.json_response(body, headers={"Api-Version": "1.47"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    path = tmp_path / "d.sock"
    await web.UnixSite(runner, str(path)).start()
    try:
        for traces in (None, Noted()):
            tracing.use(traces)
            tracing.enter(NotedSpan() if traces else None)
            engine = Engine(Address("unix", "http://docker", str(path)), 10)
            try:
                await engine.images()
                await engine.disk_usage()
                async with engine.stream("POST", "images/create", {}) as chunks:
                    async for _ in chunks:
                        pass
            finally:
                await engine.close()
    finally:
        await runner.cleanup()
    told = NotedSpan().headers()["traceparent"]
    assert seen == [(name, header) for header in (None, told) for name in ("_ping", "json", "df", "create")]


def in_tasks(connection: Any) -> list[None]:  # noqa: ANN401 - the server's own
    """One entry for each call of a connection that gets a task, from now on."""
    seen: list[None] = []
    accept = connection.calls.accept

    def spied(*arguments: Any) -> None:  # noqa: ANN401
        seen.append(None)
        accept(*arguments)

    connection.calls.accept = spied
    return seen


@pytest.mark.parametrize("traces", [None, Noted()])
async def test_calls_without_a_trace_are_answered_as_fast_as_ever(tmp_path: Path, traces: Noted | None) -> None:
    """Only a call that names its trace leaves the way of answers that are made at once, and only with traces on."""
    tracing.use(traces)
    async with serving(tmp_path) as at, raw_client(at.path) as client:
        await client.call(STATUS, spec("example.com/a:1"))
        seen = in_tasks(next(iter(at.server.connections)))
        await client.call(LIST)
        assert seen == []
        await client.call(LIST, b"", SAMPLED)
        assert len(seen) == (0 if traces is None else 1)
