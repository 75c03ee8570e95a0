"""The form that CI systems read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from criimage.conformance.outcome import Outcome
from criimage.conformance.report.text import result_lines

if TYPE_CHECKING:
    from criimage.conformance.outcome import Result, Summary

__all__ = ["junit"]

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(summary: Summary) -> bytes:
    """Return a run as JUnit's XML: a suite for each group, a case for each behaviour."""
    root = ET.Element("testsuites", name="criimage conformance", time=f"{summary.seconds:.3f}")
    suites: dict[str, ET.Element] = {}
    for result in summary.results:
        group = result.behaviour.group
        if group not in suites:
            suites[group] = ET.SubElement(root, "testsuite", name=group, hostname=_text(summary.server))
        _case(suites[group], result)
    for suite in suites.values():
        for kind in ("failure", "error", "skipped"):
            plural = {"failure": "failures", "error": "errors"}.get(kind, kind)
            suite.set(plural, str(len(suite.findall(f"testcase/{kind}"))))
        suite.set("tests", str(len(suite)))
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _case(suite: ET.Element, result: Result) -> None:
    behaviour = result.behaviour
    name = f"{behaviour.number} {behaviour.sentence}"
    case = ET.SubElement(
        suite, "testcase", classname=f"criimage.{behaviour.group}", name=_text(name), time=f"{result.seconds:.3f}"
    )
    if result.outcome in {Outcome.FAILED, Outcome.UNEXPECTED}:
        ET.SubElement(case, "failure", message=_text(result.text)).text = _text("\n".join(result_lines(result)))
    elif result.outcome is Outcome.SUITE_ERROR:
        ET.SubElement(case, "error", message=_text(result.text)).text = _text("\n".join(result_lines(result)))
    elif result.outcome in {Outcome.NOT_APPLICABLE, Outcome.KNOWN}:
        ET.SubElement(case, "skipped", message=_text(f"{result.outcome.value}: {result.text}"))


def _text(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
