"""A dashboard for Grafana, with the questions that are asked of an image service first."""

from __future__ import annotations

import json
from typing import NamedTuple

__all__ = ["PANELS", "Panel", "dashboard"]

_WIDTH = 8
_HEIGHT = 8
_COLUMNS = 3


class Panel(NamedTuple):
    """One graph: its title, unit in Grafana's words, and queries with what each line is called."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


_HERE = 'instance=~"$instance"'
_PULL_SECONDS = f"criimage_pulls_seconds_bucket{{{_HERE}}}"
_LOOKS = 'operation=~"ListImages|ImageStatus|ImageFsInfo"'
_LOOK_SECONDS = f"criimage_operations_latency_seconds_bucket{{{_HERE},{_LOOKS}}}"

PANELS = (
    Panel(
        "Up, and problems that stand",
        "none",
        (
            (f"sum by (instance) (criimage_build_info{{{_HERE}}})", "up {{instance}}"),
            (f"sum by (instance) (criimage_problems{{{_HERE}}})", "problems {{instance}}"),
            (f"min by (instance) (criimage_backend_ready{{{_HERE}}})", "backend ready {{instance}}"),
        ),
    ),
    Panel(
        "Pulls in progress",
        "none",
        ((f"sum by (instance) (criimage_pulls_in_progress{{{_HERE}}})", "{{instance}}"),),
    ),
    Panel(
        "Pulls that failed, by reason",
        "none",
        ((f"sum by (kind) (increase(criimage_pulls_failures_total{{{_HERE}}}[$__rate_interval])) > 0", "{{kind}}"),),
    ),
    Panel(
        "Bytes fetched",
        "Bps",
        ((f"sum by (instance) (rate(criimage_pulls_bytes_total{{{_HERE}}}[$__rate_interval]))", "{{instance}}"),),
    ),
    Panel(
        "Time that a pull takes",
        "s",
        tuple(
            (
                f"histogram_quantile({share}, sum by (le) (rate({_PULL_SECONDS}[$__rate_interval])))",
                f"{share:.0%}",
            )
            for share in (0.5, 0.95)
        ),
    ),
    Panel(
        "Pulls that succeeded, and those with nothing to fetch",
        "none",
        (
            (f"sum(increase(criimage_pulls_success_total{{{_HERE}}}[$__rate_interval]))", "succeeded"),
            (f"sum(increase(criimage_pulls_unchanged_total{{{_HERE}}}[$__rate_interval]))", "nothing to fetch"),
        ),
    ),
    Panel(
        "Calls",
        "reqps",
        (
            (
                f"sum by (operation) (rate(criimage_operations_total{{{_HERE}}}[$__rate_interval])) > 0",
                "{{operation}}",
            ),
        ),
    ),
    Panel(
        "Calls that failed",
        "reqps",
        (
            (
                f"sum by (operation, kind) (rate(criimage_operations_errors_total{{{_HERE}}}[$__rate_interval])) > 0",
                "{{operation}} {{kind}}",
            ),
        ),
    ),
    Panel(
        "95 % of lists and statuses are answered within",
        "s",
        (
            (
                f"histogram_quantile(0.95, sum by (le, operation) (rate({_LOOK_SECONDS}[$__rate_interval])))",
                "{{operation}}",
            ),
        ),
    ),
    Panel(
        "Layers of pulled images",
        "none",
        tuple(
            (f"sum(increase(criimage_pulls_layers_{what}_total{{{_HERE}}}[$__rate_interval]))", what)
            for what in ("fetched", "reused")
        ),
    ),
    Panel(
        "Lists of all images, by cache",
        "reqps",
        ((f"sum by (cache) (rate(criimage_lists_total{{{_HERE}}}[$__rate_interval]))", "{{cache}}"),),
    ),
    Panel(
        "Clients connected",
        "none",
        (
            (f"sum by (instance) (criimage_connections{{{_HERE}}})", "{{instance}}"),
            (
                f"sum by (instance) (increase(criimage_connections_denied_total{{{_HERE}}}[$__rate_interval])) > 0",
                "denied {{instance}}",
            ),
        ),
    ),
    Panel(
        "Removals",
        "none",
        (
            (f"sum(increase(criimage_removals_success_total{{{_HERE}}}[$__rate_interval]))", "succeeded"),
            (
                f"sum by (kind) (increase(criimage_removals_failures_total{{{_HERE}}}[$__rate_interval])) > 0",
                "{{kind}}",
            ),
        ),
    ),
    Panel(
        "Calls relayed to the runtime",
        "reqps",
        (
            (f"sum by (method) (rate(criimage_relayed_calls_total{{{_HERE}}}[$__rate_interval])) > 0", "{{method}}"),
            (
                f"sum by (code) (rate(criimage_relayed_calls_errors_total{{{_HERE}}}[$__rate_interval])) > 0",
                "failed: {{code}}",
            ),
        ),
    ),
    Panel(
        "Runtime reached; tasks that failed; lines and spans lost",
        "none",
        (
            (f"min by (instance) (criimage_runtime_connected{{{_HERE}}})", "runtime {{instance}}"),
            (
                f"sum by (task) (increase(criimage_task_failures_total{{{_HERE}}}[$__rate_interval])) > 0",
                "failed: {{task}}",
            ),
            (f"sum(increase(criimage_log_lines_dropped_total{{{_HERE}}}[$__rate_interval])) > 0", "lines dropped"),
            (f"sum(increase(criimage_spans_lost_total{{{_HERE}}}[$__rate_interval])) > 0", "spans lost"),
        ),
    ),
)


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    source = {"type": "prometheus", "uid": "${source}"}
    variables = [
        {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "label": "Node",
            "type": "query",
            "datasource": source,
            "query": "label_values(criimage_build_info, instance)",
            "multi": True,
            "includeAll": True,
            "refresh": 2,
        },
    ]
    document = {
        "uid": "criimage",
        "title": "criimage",
        "tags": ["kubernetes", "images"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(number, panel, source) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(document, indent=2) + "\n"


def _panel(number: int, panel: Panel, source: dict[str, str]) -> dict[str, object]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": source}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }
