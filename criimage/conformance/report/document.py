"""The form for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from criimage import __version__

if TYPE_CHECKING:
    from criimage.conformance.exchange import Exchange
    from criimage.conformance.outcome import Summary

__all__ = ["document"]


def document(summary: Summary) -> bytes:
    """Return a run as one JSON document."""
    results = [
        {
            "number": one.behaviour.number,
            "group": one.behaviour.group,
            "level": one.behaviour.level.value,
            "sentence": one.behaviour.sentence,
            "why": one.behaviour.why,
            "source": one.behaviour.source,
            "outcome": one.outcome.value,
            "text": one.text,
            "seconds": round(one.seconds, 3),
            "exchanges": [_said(exchange) for exchange in one.exchanges],
        }
        for one in summary.results
    ]
    whole = {
        "criimage": __version__,
        "server": summary.server,
        "endpoint": summary.endpoint,
        "started": summary.started,
        "seconds": round(summary.seconds, 3),
        "summary": summary.line,
        "exit_code": summary.exit_code,
        "left": list(summary.left),
        "interrupted": summary.interrupted,
        "silent_since": summary.silent_since,
        "known_of": summary.known_of,
        "repeated_by": summary.repeated_by,
        "results": results,
    }
    return (json.dumps(whole, indent=1) + "\n").encode()


def _said(exchange: Exchange) -> dict[str, object]:
    return {
        "method": exchange.method,
        "request": exchange.request,
        "answer": exchange.answer,
        "error": exchange.error,
        "milliseconds": round(exchange.milliseconds, 3),
    }
