"""Structured logs: one event a line on standard error, with the request they belong to.

Everything goes through structlog, the records of libraries too. What is bound with `request` is on every line of
that call. Secrets have no way in: requests are never logged, and credentials print as what they are, not what they
hold.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

__all__ = ["LEVELS", "new_request_id", "set_level", "set_up"]

LEVELS = ("debug", "info", "warning", "error")

_CHATTY = ("asyncio", "hpack")
"""Libraries whose debug lines help nobody here; hpack's are one for every header, values included."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_counter = itertools.count(1)
_process = f"{os.getpid():x}"


def new_request_id() -> str:
    """Return an ID that is unique among the requests of this process."""
    return f"{_process}-{next(_counter)}"


def set_level(level: str) -> None:
    """Show events of `level` (see LEVELS) and above from now on."""
    logging.getLogger().setLevel(level.upper())


def set_up(level: str, log_format: str) -> None:
    """Send all logs to standard error.

    Args:
        level: one of LEVELS.
        log_format: `text` or `json`. Under journald (JOURNAL_STREAM) lines carry no time, but their priority.
    """
    under_journald = "JOURNAL_STREAM" in os.environ
    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]
    if not under_journald:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    formatter = (_PriorityFormatter if under_journald else structlog.stdlib.ProcessorFormatter)(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(log_format)],
        foreign_pre_chain=shared,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.getLogger().handlers[:] = [handler]
    for library in _CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
    set_level(level)
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


def _renderers(log_format: str) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Tracebacks without local variables: those could hold a secret.
    traceback = structlog.dev.plain_traceback
    return [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=traceback)]


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
