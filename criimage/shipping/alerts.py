"""Alerting rules for Prometheus: what somebody should look at, with what to look at."""

from __future__ import annotations

import json
from typing import NamedTuple

__all__ = ["ALERTS", "Alert", "rules"]


class Alert(NamedTuple):
    """One rule: its name, what must be true for how long, how urgent it is, and what it means."""

    name: str
    query: str
    lasting: str
    severity: str
    summary: str
    description: str


ALERTS = (
    Alert(
        "CriimageProblem",
        "criimage_problems > 0",
        "5m",
        "critical",
        "The image service of {{ $labels.instance }} has a problem that stays",
        "Its health is NOT_SERVING. `criimage status` on the node names the problem, and its log when it came.",
    ),
    Alert(
        "CriimagePullsFail",
        "sum by (instance, backend) (increase(criimage_pulls_failures_total[15m])) > 0 "
        "and on (instance, backend) increase(criimage_pulls_success_total[15m]) == 0",
        "15m",
        "warning",
        "Every pull on {{ $labels.instance }} fails",
        "None has succeeded for half an hour. criimage_pulls_failures_total has the reasons by kind.",
    ),
    Alert(
        "CriimageRegistryUnavailable",
        'increase(criimage_pulls_failures_total{kind="registry_unavailable"}[15m]) > 3',
        "5m",
        "warning",
        "{{ $labels.instance }} cannot reach a registry",
        "The log of criimage names it: `journalctl -u criimage -p warning`.",
    ),
    Alert(
        "CriimagePullsWait",
        "criimage_pulls_in_progress > 0 and on (instance, backend) increase(criimage_pulls_seconds_count[30m]) == 0",
        "30m",
        "warning",
        "Pulls on {{ $labels.instance }} run and none ends",
        "`criimage pulls` on the node shows what each of them waits for.",
    ),
    Alert(
        "CriimageRemovalsFail",
        "sum by (instance, backend) (increase(criimage_removals_failures_total[1h])) > 5",
        "15m",
        "warning",
        "Images on {{ $labels.instance }} cannot be removed",
        "The disk may fill: garbage collection removes images by these calls. "
        "criimage_removals_failures_total has the reasons by kind.",
    ),
    Alert(
        "CriimageFaults",
        'sum by (instance, backend, operation) (increase(criimage_operations_errors_total{kind="internal"}[15m])) > 0',
        "0m",
        "warning",
        "{{ $labels.operation }} has met a fault of criimage on {{ $labels.instance }}",
        "The log has a traceback. Please report it.",
    ),
    Alert(
        "CriimageTaskFails",
        "increase(criimage_task_failures_total[15m]) > 0",
        "0m",
        "warning",
        "{{ $labels.task }} of criimage has failed on {{ $labels.instance }}",
        "It has been begun again. The log has a traceback.",
    ),
    Alert(
        "CriimageRuntimeGone",
        "criimage_runtime_connected == 0 and on (instance, backend) sum by (instance, backend) "
        "(increase(criimage_relayed_calls_errors_total[10m])) > 0",
        "5m",
        "critical",
        "The runtime behind criimage on {{ $labels.instance }} does not answer",
        "Calls that are relayed to it fail: the node is not ready. Look at the runtime's own log.",
    ),
    Alert(
        "CriimageListsAreSlow",
        "histogram_quantile(0.95, sum by (instance, le) "
        '(rate(criimage_operations_latency_seconds_bucket{operation="ListImages"}[10m]))) > 2.5',
        "15m",
        "warning",
        "Listing images takes seconds on {{ $labels.instance }}",
        "A kubelet lists them all the time. Look at the load of the node and of its disk.",
    ),
)


def rules() -> str:
    """Return the rules as a file for Prometheus' `rule_files`."""
    # A JSON string is a YAML string.
    lines = ["groups:", "- name: criimage", "  rules:"]
    for alert in ALERTS:
        lines += [
            f"  - alert: {alert.name}",
            f"    expr: {json.dumps(alert.query)}",
            f"    for: {alert.lasting}",
            "    labels:",
            f"      severity: {alert.severity}",
            "    annotations:",
            f"      summary: {json.dumps(alert.summary)}",
            f"      description: {json.dumps(alert.description)}",
        ]
    return "\n".join(lines) + "\n"
