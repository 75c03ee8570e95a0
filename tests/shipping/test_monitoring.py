"""Claims: dashboard and alerting rules ask for series that exist, with labels and values they have."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from criimage.cli import main
from criimage.metrics import PrometheusMetrics, error_kinds
from criimage.shipping.alerts import ALERTS, rules
from criimage.shipping.dashboard import PANELS, dashboard
from documentation.test_reference import assembly
from operating.staged import staged_server
from parts.child import free_port
from parts.missing import need
from parts.prometheus import prometheus

if TYPE_CHECKING:
    from pathlib import Path

QUERIES = [*(query for panel in PANELS for query, _ in panel.queries), *(alert.query for alert in ALERTS)]
TEXTS = [
    *((legend, query) for panel in PANELS for query, legend in panel.queries),
    *((alert.summary + alert.description, alert.query) for alert in ALERTS),
]
TARGET = {"instance", "job"}
"""Labels that Prometheus adds."""


@pytest.fixture(scope="module")
def served() -> dict[str, list[dict[str, str]]]:
    """The labels of every sample of the page, by its name."""
    metrics = PrometheusMetrics("memory", assembly()[1], error_kinds())
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_every_series_that_is_asked_for_exists(served: dict[str, list[dict[str, str]]]) -> None:
    """Names are served from the start, and so is each value of a label that a query chooses."""
    for query in QUERIES:
        names = re.findall(r"\b(criimage_\w+)(?:\{([^}]*)\})?", query)
        assert names, query
        for name, selector in names:
            assert name in served or name == "criimage_task_failures_total", query
            for label, regular, value in re.findall(r'(\w+)=(~?)"([^"]*)"', selector):
                for wanted in value.split("|") if regular else [value]:
                    assert label in TARGET or any(one.get(label) == wanted for one in served[name]), (name, wanted)


def test_every_label_that_is_kept_exists(served: dict[str, list[dict[str, str]]]) -> None:
    """What is summed by is a label of the series, or Prometheus' own."""
    labels = {label for samples in served.values() for sample in samples for label in sample} | {"le", "task"}
    for query in QUERIES:
        for kept in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
            assert {label.strip() for label in kept.split(",")} <= labels | TARGET, query


def test_what_texts_show_is_left_by_the_query() -> None:
    """A text's placeholder is a label that its query's sum keeps."""
    for text, query in TEXTS:
        for shown in re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text):
            kept = re.findall(r"\bby \(([^)]*)\)", query)
            assert shown in (kept[0] if kept else "instance backend task"), (text, query)


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """Valid JSON, panels with numbers of their own side by side, and a data source that is asked for."""
    document = json.loads(dashboard())
    panels = document["panels"]
    assert len(panels) == len(PANELS)
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${source}"}
    assert [one["name"] for one in document["templating"]["list"]] == ["source", "instance"]


@pytest.mark.engine
def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    """Promtool reads the file, and every query of the dashboard as a rule."""
    need("promtool")
    recorded = ["groups:", "- name: dashboard", "  rules:"]
    for number, (query, _) in enumerate(pair for panel in PANELS for pair in panel.queries):
        asked = query.replace("$__rate_interval", "5m").replace("$instance", ".*")
        recorded += [f"  - record: panel:{number}", f"    expr: {json.dumps(asked)}"]
    (tmp_path / "rules.yml").write_text(rules())
    (tmp_path / "dashboard.yml").write_text("\n".join(recorded))
    command = ["promtool", "check", "rules", str(tmp_path / "rules.yml"), str(tmp_path / "dashboard.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@pytest.mark.engine
def test_every_query_has_an_answer_on_a_server_that_works() -> None:
    """A real Prometheus looks at a real server: each panel has a line but for those that only show what is wrong."""
    need("prometheus")
    address = f"127.0.0.1:{free_port()}"
    with (
        staged_server(arguments=["--set", f"metrics.address={address}"]) as server,
        prometheus({"here": address}, seconds=0.5, rules=rules()) as watcher,
    ):
        wanted = [query for panel in PANELS for query, _ in panel.queries if "> 0" not in query]
        unseen = wanted
        end = time.monotonic() + 150
        while unseen or "unknown" in watcher.rules().values():
            assert time.monotonic() < end, unseen
            for arguments in (["images"], ["pull", "-q", "example.com/demo"], ["rmi", "example.com/demo"]):
                CliRunner().invoke(main, [*arguments, "--endpoint", server.endpoint])
            unseen = [query for query in wanted if not watcher.now(_asked(query))]
        for query in QUERIES:
            watcher.now(_asked(query))  # what is no query raises
        assert watcher.rules() == {alert.name: "ok" for alert in ALERTS}
        (here,) = watcher.now(_asked(PANELS[0].queries[0][0]))
        assert here.labels == {"instance": "here"}


def _asked(query: str) -> str:
    return query.replace("$__rate_interval", "10s").replace("$instance", ".*")
