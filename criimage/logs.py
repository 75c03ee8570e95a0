"""Structured logs: one event a line on standard error, with the request they belong to.

Logging never waits: lines go through `criimage.log_queue`.

Everything goes through structlog, the records of libraries too. What is logged in a call's context carries its
request's ID. Secrets have no way in: requests are never logged, and credentials print as what they are, not what they
hold.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog

from criimage.log_queue import LineQueue

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

__all__ = [
    "SparingLog",
    "begin_call",
    "drop_all",
    "dropped",
    "finish",
    "new_request_id",
    "set_level",
    "set_up",
]

_STANDARD_ERROR = 2

_CHATTY = ("asyncio", "hpack")
"""Libraries whose debug lines help nobody here; hpack's are one for every header, values included."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_counter = itertools.count(1)
_process = f"{os.getpid():x}"


def new_request_id() -> str:
    """Return an ID that is unique among the requests of this process."""
    return f"{_process}-{next(_counter)}"


class _CallMark:
    """The call that a context belongs to; its ID is made when somebody looks."""

    __slots__ = ("_request", "operation")

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self._request = ""

    @property
    def request(self) -> str:
        if not self._request:
            self._request = new_request_id()
        return self._request


_call: ContextVar[_CallMark | None] = ContextVar("call", default=None)


def begin_call(operation: str) -> None:
    """Put a request ID and the operation on everything that is logged in this context from now on."""
    _call.set(_CallMark(operation))


def _add_call(_logger: object, _method: str, event: EventDict) -> EventDict:
    mark = _call.get()
    if mark is not None:
        event.setdefault("request", mark.request)
        event.setdefault("operation", mark.operation)
    return event


def drop_all() -> None:
    """Show no event until `set_up`: what a command that is no service has to tell, it tells in its own words."""
    structlog.configure(processors=[_drop])


def _drop(_logger: object, _method: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


def set_level(level: str) -> None:
    """Show events of `level`, which is debug, info, warning or error, and above from now on."""
    logging.getLogger().setLevel(level.upper())


def dropped() -> int:
    """Return how many lines have been dropped because nobody took them in time."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LineQueue))


def finish(seconds: float) -> None:
    """Wait until every line is written, for so long at most; logging goes on to work."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineQueue):
            handler.finish(seconds)


def set_up(level: str, log_format: str, descriptor: int = _STANDARD_ERROR) -> None:
    """Send all logs to standard error, those of warnings and of faults that nothing catches included.

    Args:
        level: debug, info, warning or error.
        log_format: `text` or `json`. Under journald (JOURNAL_STREAM) lines carry no time, but their priority.
        descriptor: where else to write.
    """
    under_journald = "JOURNAL_STREAM" in os.environ
    shared: list[Processor] = [_add_call, structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]
    if not under_journald:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    formatter = (_PriorityFormatter if under_journald else structlog.stdlib.ProcessorFormatter)(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(log_format)],
        foreign_pre_chain=shared,
    )
    handler = LineQueue(descriptor)
    handler.setFormatter(formatter)
    logging.getLogger().handlers[:] = [handler]
    for library in _CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(capture=True)
    # What Python itself would print would wait for the reader.
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_of_a_thread
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class SparingLog:
    """Logs an event that a client can cause at will: once a second at most, with how many there were since.

    Args:
        name: of the logger.
    """

    def __init__(self, name: str) -> None:
        self._log = structlog.get_logger(name)
        self._next = 0.0
        self._unsaid = 0

    def warning(self, event: str, **fields: object) -> None:
        """Log the event, or only count it."""
        now = time.monotonic()
        if now < self._next:
            self._unsaid += 1
            return
        if self._unsaid:
            fields["unsaid"] = self._unsaid
        self._next, self._unsaid = now + 1, 0
        self._log.warning(event, **fields)


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    _log_fault("an exception could not be raised", found.exc_value)


def _log_of_a_thread(found: threading.ExceptHookArgs) -> None:
    _log_fault("a thread ended with an exception", found.exc_value)


def _log_fault(text: str, fault: BaseException | None) -> None:
    logging.getLogger(__name__).error(text, exc_info=fault)


def _renderers(log_format: str) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Tracebacks without local variables: those could hold a secret.
    traceback = structlog.dev.plain_traceback
    return [
        _printable,
        structlog.dev.ConsoleRenderer(
            colors=os.isatty(_STANDARD_ERROR) and not os.environ.get("NO_COLOR"), exception_formatter=traceback
        ),
    ]


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    # A client's text must neither begin a line of its own nor talk to the operator's terminal.
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode()
    return event


class _PriorityFormatter(structlog.stdlib.ProcessorFormatter):
    """Begins each line, those of a traceback too, with syslog's priority, which journald takes off and files."""

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITIES.get(record.levelname.lower(), 6)}>"
        return "\n".join(priority + line for line in super().format(record).split("\n"))
