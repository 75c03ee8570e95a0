"""Spans by OpenTelemetry, brought to a collector over OTLP/HTTP; the extra `criimage[tracing]`.

Spans go into a queue of the SDK's that has a bound and drops what is beyond it; a thread of the SDK's delivers them. So
neither a call nor a pull ever waits for the collector. The standard's variables (OTEL_*) count wherever the settings
say nothing; secrets, such as the collector's password, have no other place than OTEL_EXPORTER_OTLP_HEADERS.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog

from criimage import __version__
from criimage.errors import ConfigurationError
from criimage.foreign_text import keep_start, readable
from criimage.masking import NO_SECRETS, Secrets
from criimage.plugins import how_to_install
from criimage.tracing import HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from criimage.settings import TracingSettings
    from criimage.tracing import Span, Value

__all__ = ["OtlpTraces", "fault", "open_traces"]

_log = structlog.get_logger(__name__)

_PATH = "/v1/traces"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_CREDENTIALS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

VALUE_LIMIT = 1024
STATE_LIMIT = 512
"""What a tracestate must have room for at least (W3C Trace Context 3.3.1.5); longer ones are not read."""
EVENTS_LIMIT = 64
STOP_SECONDS = 0.5
"""How long what is left may take to be delivered when the service ends."""


def _wanted(settings: TracingSettings, environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if settings.endpoint:
        return True
    named = any(environment.get(name) for name in _ENDPOINTS)
    return named and environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"


def fault(settings: TracingSettings, environment: Mapping[str, str] = os.environ) -> str:
    """Return what keeps the traces that are wanted from being made; the empty text if nothing does."""
    if not _wanted(settings, environment):
        return ""
    if not all(_is_there(package) for package in _PACKAGES):
        return f"traces need OpenTelemetry, which is not installed: {how_to_install('criimage', 'tracing')}"
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "http/protobuf")
    if not settings.endpoint and protocol != "http/protobuf":
        return f"traces go out over http/protobuf, not over {keep_start(protocol, 40)}: set OTEL_EXPORTER_OTLP_PROTOCOL"
    return ""


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _secrets(environment: Mapping[str, str]) -> Secrets:
    """Return what the collector is sent to let us in: whoever refuses may send it back."""
    values: list[str] = []
    for name in _CREDENTIALS:
        for header in environment.get(name, "").split(","):
            value = unquote(header.partition("=")[2].strip())
            values += [value, value.rpartition(" ")[2]]
    return Secrets(values)


def open_traces(settings: TracingSettings, environment: Mapping[str, str] = os.environ) -> OtlpTraces | None:
    """Return what makes spans and delivers them; None where none are wanted.

    Raises:
        ConfigurationError: the settings want them and it cannot be. Where only variables do, which are often set for a
            whole machine, the log says so.
    """
    if not _wanted(settings, environment):
        return None
    text = fault(settings, environment)
    if text and settings.endpoint:
        raise ConfigurationError(text, ("tracing", "endpoint"))
    if text:
        _log.warning("no traces are made", reason=text)
        return None
    return OtlpTraces(settings, environment)


class OtlpTraces:
    """Makes spans and delivers them.

    Args:
        settings: where to, and how many.
        environment: the standard's variables.
    """

    def __init__(self, settings: TracingSettings, environment: Mapping[str, str] = os.environ) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        reasons = _Reasons()
        endpoint = f"{settings.endpoint.rstrip('/').removesuffix(_PATH)}{_PATH}" if settings.endpoint else None
        self._delivery = _Delivery(OTLPSpanExporter(endpoint=endpoint), reasons, _secrets(environment))
        named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        about = {"service.version": __version__, **({} if named else {"service.name": "criimage"})}
        # Where the settings leave it at all of them, OTEL_TRACES_SAMPLER may say otherwise.
        sampler = ParentBased(TraceIdRatioBased(settings.sample_ratio)) if settings.sample_ratio < 1 else None
        self._provider = TracerProvider(
            resource=Resource.create(about),
            sampler=sampler,
            shutdown_on_exit=False,  # it would wait as long as it likes
            span_limits=SpanLimits(max_attribute_length=VALUE_LIMIT, max_events=EVENTS_LIMIT),
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._delivery))
        self._tracer = self._provider.get_tracer("criimage", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._stopping: threading.Thread | None = None
        self._end = 0.0

    def call(self, name: str, attributes: Mapping[str, Value], header: Callable[[str], str]) -> Span:
        """Begin the span of a call, in the trace that its headers name."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        carrier = {name: value for name in HEADERS if (value := header(name)) and len(value) <= STATE_LIMIT}
        context = self._propagator.extract(carrier, Context()) if carrier else Context()
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
        return _OtlpSpan(self._tracer, self._propagator, span)

    def alone(self, name: str, attributes: Mapping[str, Value]) -> Span:
        """Begin a trace."""
        from opentelemetry.context import Context

        return _OtlpSpan(
            self._tracer, self._propagator, self._tracer.start_span(name, Context(), attributes=attributes)
        )

    def lost(self) -> int:
        """How many spans the collector has not taken."""
        return self._delivery.lost

    def stop(self) -> None:
        """Take no more, and begin to deliver the rest, in a thread."""
        if self._stopping is None:
            self._end = time.monotonic() + STOP_SECONDS
            self._stopping = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
            self._stopping.start()

    def finish(self) -> None:
        """Wait until everything is delivered, STOP_SECONDS after `stop` at most."""
        self.stop()
        if self._stopping is not None:
            self._stopping.join(max(0.0, self._end - time.monotonic()))


class _OtlpSpan:
    def __init__(self, tracer: Any, propagator: Any, span: Any) -> None:  # noqa: ANN401 - of an extra
        self._tracer, self._propagator, self._span = tracer, propagator, span

    def child(self, name: str, attributes: Mapping[str, Value]) -> Span:
        span = self._tracer.start_span(name, self._context(), attributes=attributes)
        return _OtlpSpan(self._tracer, self._propagator, span)

    def tell(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def happened(self, name: str, attributes: Mapping[str, Value]) -> None:
        self._span.add_event(name, attributes)

    def end(self, error: str = "") -> None:
        from opentelemetry.trace import StatusCode

        if error:
            self._span.set_status(StatusCode.ERROR, keep_start(error, VALUE_LIMIT))
        self._span.end()

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._context())
        return carrier

    def _context(self) -> Any:  # noqa: ANN401
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(self._span, Context())


class _Delivery:
    """An exporter that says once that the collector takes nothing, and once that it does again.

    Args:
        exporter: the SDK's.
        reasons: what that one logs.
        secrets: not to be seen in a log.
    """

    def __init__(self, exporter: Any, reasons: _Reasons, secrets: Secrets = NO_SECRETS) -> None:  # noqa: ANN401
        self._exporter, self._reasons, self._secrets = exporter, reasons, secrets
        self._failing = False
        self.lost = 0

    def export(self, spans: Sequence[Any]) -> Any:  # noqa: ANN401
        """Deliver these; the SDK calls it in its own thread."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        self._reasons.texts.clear()
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - a collector's answer must not end the thread
            self._reasons.texts.append(str(error))
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            if self._failing:
                _log.info("traces are delivered again", lost=self.lost)
            self._failing = False
            return result
        self.lost += len(spans)
        if not self._failing:
            reason = readable(self._secrets.mask("; ".join(self._reasons.texts)), VALUE_LIMIT)
            _log.warning("traces cannot be delivered", reason=reason)
        self._failing = True
        return result

    def shutdown(self) -> None:
        """Deliver no more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Keep nothing back."""
        return bool(self._exporter.force_flush(timeout_millis))


class _Reasons(logging.Handler):
    """Keeps what the exporter said, instead of letting it say so at each try."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        # What the SDK has to say beside this is about single spans.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = logging.getLogger(_EXPORTER)
        exporter.setLevel(logging.WARNING)
        exporter.propagate = False
        exporter.handlers[:] = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first of a delivery, which names the fault, and the last, which says what became of it."""
        self.texts[1:] = [keep_start(record.getMessage(), VALUE_LIMIT)]
