"""Claims: the pages on errors, metrics and the wire say what the code does, no less and no more."""

from __future__ import annotations

import re

from criimage import errors, metrics
from criimage.server.app import Assembly
from criimage.server.calls.grpc_status import STATUSES, status_of
from criimage.settings import Settings
from criimage.testing.memory import MemoryBackend
from criimage.work import Work
from documentation.pages import code, definitions, page, rows, sections

KINDS = {row[0].strip("`"): row for row in rows(sections(page("reference/errors"))["Kinds"])}
CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "CriimageError"]


def assembly() -> tuple[Assembly, list[str]]:
    """A server on the in-memory backend, and the operations that its metrics have."""
    operations: list[str] = []

    def figures(found: list[str]) -> metrics.Metrics:
        operations.extend(found)
        return metrics.NoMetrics()

    return Assembly(MemoryBackend(), Work(), Settings(), figures, {}), operations


def test_every_kind_of_error_is_documented() -> None:
    """The table has every kind that metrics and logs can show."""
    assert KINDS.keys() == set(metrics.error_kinds())


def test_codes_and_beginnings_are_the_tables_own() -> None:
    """Each kind's code and the beginning of its text are those that a client sees."""
    for kind in CLASSES:
        status, text = status_of(kind("x"))
        row = KINDS[kind.kind]
        assert code(row[2])[0] == status.name, kind
        assert (code(row[3]) or [""])[0] == text.removesuffix("x"), kind
    assert {name for row in KINDS.values() for name in code(row[2])} >= {status.name for status, _ in STATUSES.values()}


def test_every_metric_is_documented() -> None:
    """The series of the page are those that are served, and each has its labels named."""
    registry = metrics.PrometheusMetrics("memory", ["Version"], ["internal"]).registry
    documented = definitions(sections(page("reference/metrics"))["Series"])
    served = {}
    for family in registry.collect():
        name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
        served[name] = family
    assert documented.keys() == served.keys()
    for name, family in served.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(code(documented[name])), name
        if family.type == "histogram":
            bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels} - {"+Inf"}
            text = documented[name].replace(" and ", ", ")
            assert all(f"{float(bound):g}" in text.replace(",", " ").split() for bound in bounds), name


def test_every_method_is_documented() -> None:
    """The table of methods is what the server serves."""
    served: dict[str, set[str]] = {}
    for method in assembly()[0].server.methods.values():
        served.setdefault(method.service, set()).add(method.operation)
    documented = {code(row[0])[0]: set(code(row[1])) for row in rows(sections(page("reference/wire"))["Methods"])}
    assert documented == served


def test_promises_name_every_method_of_our_services() -> None:
    """The list of promises has an entry for each method of the image, runtime and pull services."""
    terms = re.findall(r"^(.+)\n: ", sections(page("reference/wire"))["What each call promises"], re.MULTILINE)
    named = {name for term in terms for name in term.split(", ")}
    methods = assembly()[0].server.methods.values()
    assert named == {method.operation for method in methods if not method.service.startswith("grpc.")}
