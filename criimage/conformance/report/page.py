"""One HTML page that needs nothing else: groups, filters, and a permanent link to each behaviour by its number."""

from __future__ import annotations

import re
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from criimage import __version__
from criimage.conformance.outcome import Outcome
from criimage.conformance.report.text import ending_lines

if TYPE_CHECKING:
    from criimage.conformance.exchange import Exchange
    from criimage.conformance.outcome import Result, Summary

__all__ = ["page"]

_CLASSES = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.KNOWN: "known",
    Outcome.UNEXPECTED: "failed",
    Outcome.NOT_APPLICABLE: "na",
    Outcome.SUITE_ERROR: "failed",
}
_FILTERS = (("all", "all"), ("passed", "passed"), ("failed", "failed"), ("known", "known"), ("na", "not applicable"))

_STYLE = """
:root { --back: #fff; --fore: #1b1f23; --soft: #5c6570; --line: #dfe3e8; --card: #f8f9fb; --link: #2757dd;
  --passed: #1a7f37; --failed: #c01c28; --known: #9a6700; --na: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --back: #131416; --fore: #d6d8db; --soft: #9aa3ad; --line: #303438;
  --card: #1b1d20; --link: #6b9bff; --passed: #4ac26b; --failed: #ff7b72; --known: #d9a520; --na: #8b949e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--fore); line-height: 1.5;
  font: 16px/1.5 -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h2 a { color: inherit; } code { font-size: .88em; background: var(--card); border: 1px solid var(--line);
  border-radius: .2rem; padding: 0 .2em; overflow-wrap: anywhere; }
.soft { color: var(--soft); } a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
.counts button { font: inherit; padding: .3rem .8rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--card); color: inherit; cursor: pointer; }
.counts button[aria-pressed=true] { border-color: var(--link); box-shadow: 0 0 0 1px var(--link); }
details { border: 1px solid var(--line); border-left: 4px solid var(--na); border-radius: .3rem; margin: .35rem 0;
  background: var(--card); }
summary { cursor: pointer; padding: .45rem .7rem; display: flex; gap: .6rem; align-items: baseline; }
summary .number { min-width: 2.6rem; font-weight: 600; } summary .sentence { flex: 1; }
summary .outcome { white-space: nowrap; font-size: .85rem; }
details.passed { border-left-color: var(--passed); } details.passed .outcome { color: var(--passed); }
details.failed { border-left-color: var(--failed); } details.failed .outcome { color: var(--failed); }
details.known { border-left-color: var(--known); } details.known .outcome { color: var(--known); }
details.na .outcome { color: var(--na); }
details > div { padding: 0 .9rem .7rem 3.9rem; } dl { margin: .2rem 0; } dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0 0 .4rem; overflow-wrap: anywhere; } .hidden { display: none; }
pre { background: var(--back); border: 1px solid var(--line); border-radius: .3rem; padding: .6rem; overflow-x: auto;
  font-size: .82rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) { details > div { padding-left: .9rem; } summary { flex-wrap: wrap; }
  summary .sentence { flex-basis: 100%; order: 3; } }
"""

_SCRIPT = """
const buttons = document.querySelectorAll('.counts button');
function show(kind) {
  buttons.forEach(b => b.setAttribute('aria-pressed', String(b.dataset.kind === kind)));
  document.querySelectorAll('details').forEach(
    d => d.classList.toggle('hidden', kind !== 'all' && !d.classList.contains(kind)));
  document.querySelectorAll('section').forEach(
    s => s.classList.toggle('hidden', !s.querySelector('details:not(.hidden)')));
}
buttons.forEach(b => b.addEventListener('click', () => show(b.dataset.kind)));
function open() {
  const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (wanted && wanted.tagName === 'DETAILS') { show('all'); wanted.open = true; wanted.scrollIntoView(); }
}
addEventListener('hashchange', open); open();
"""


def page(summary: Summary) -> bytes:
    """Return a run as a page."""
    counts = {kind: sum(1 for one in summary.results if _CLASSES[one.outcome] == kind) for kind, _ in _FILTERS}
    counts["all"] = len(summary.results)
    buttons = "".join(
        f'<button type="button" data-kind="{kind}" aria-pressed="{str(kind == "all").lower()}">'
        f"{counts[kind]} {label}</button>"
        for kind, label in _FILTERS
    )
    sections = "".join(
        f'<section><h2 id="{name}"><a href="#{name}">{name}</a></h2>{"".join(map(_details, results))}</section>'
        for name, results in groupby(summary.results, key=lambda one: one.behaviour.group)
    )
    title = f"CRI image service conformance: {escape(summary.server)}"
    ended = "".join(f"<p>{escape(line)}</p>" for line in ending_lines(summary))
    known = f"<br>Known differences: {escape(summary.known_of)}" if summary.known_of else ""
    again = f"<br>Again: <code>{escape(summary.repeated_by)}</code>" if summary.repeated_by else ""
    document = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style></head><body><main>
<h1>{title}</h1>
<p class="soft">{escape(summary.endpoint)}, {escape(summary.started)}, {summary.seconds:.1f} s,
by criimage {escape(__version__)}: {escape(summary.line)}{known}{again}</p>{ended}
<div class="counts">{buttons}</div>
{sections}
</main><script>{_SCRIPT}</script></body></html>
"""
    return document.encode("utf-8", "replace")


def _details(result: Result) -> str:
    behaviour = result.behaviour
    kind = _CLASSES[result.outcome]
    facts = [("why", _prose(behaviour.why)), ("source", _prose(behaviour.source)), ("level", behaviour.level.value)]
    if result.text:
        # A name or an answer may have backticks of its own: what was found is shown as it is.
        facts.insert(0, ("found", escape(result.text)))
    rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)
    said = "\n".join(map(_exchange, result.exchanges))
    return (
        f'<details id="{behaviour.number}" class="{kind}"{" open" if kind == "failed" else ""}>'
        f'<summary><a class="number" href="#{behaviour.number}">{behaviour.number}</a>'
        f'<span class="sentence">{_prose(behaviour.sentence)}</span>'
        f'<span class="outcome">{result.outcome.value}</span></summary>'
        f"<div><dl>{rows}</dl>{f'<pre>{said}</pre>' if said else ''}</div></details>"
    )


def _prose(text: str) -> str:
    """Our own words, in which backticks stand around what is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _exchange(exchange: Exchange) -> str:
    answer = exchange.error or exchange.answer
    return escape(f"> {exchange.method} {exchange.request}\n< {answer}  ({exchange.milliseconds:.1f} ms)")
