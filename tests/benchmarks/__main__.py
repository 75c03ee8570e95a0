"""Measures criimage beside what stands behind it and beside containerd, and prints tables in Markdown.

    python -m benchmarks [--only PART,...] [--images N,...] [--rounds N] [--ten-thousand] [--write-docs]

Everything it needs it starts in folders of its own, as root, and nothing is left. `--from FILE` prints the tables of a
run that was made before.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from benchmarks import bursts, calls, growth, pulls, starts
from benchmarks.client import clients
from benchmarks.node import node
from benchmarks.plot import svg
from benchmarks.processes import load
from benchmarks.report import markdown, placed
from benchmarks.results import Results
from benchmarks.run import CLIENTS, Options, Run
from criimage import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.node import Node

PARTS: dict[str, Callable[[Run], None]] = {
    "calls": calls.one_at_a_time,
    "throughput": calls.at_once,
    "processor": calls.processor,
    "relay": calls.relayed,
    growth.PART: growth.growth,
    "start": starts.starts,
    "memory": starts.memories,
    "pulls": pulls.pulls,
    bursts.PART: bursts.bursts,
}
_TEN_THOUSAND = 10_000
_DOCS = Path(__file__).parent.parent.parent / "docs"
_PAGE = _DOCS / "performance.md"
_PICTURE = _DOCS / "pictures" / "performance.svg"
_NUMBERS = _DOCS / "measure" / "performance.json"


def measure(options: Options) -> Results:
    """Starts everything, measures the chosen parts with rising numbers of images, and ends everything.

    A part that fails is noted as missing; the others are measured all the same.
    """
    results = Results()
    filled: dict[str, dict[str, float]] = {}
    before, began = load(), time.monotonic()
    with ExitStack() as stack:
        made, (client, *others) = stack.enter_context(node()), stack.enter_context(clients(1 + CLIENTS))
        results.missing |= made.missing
        stack.enter_context(_preferred([os.getpid(), *(server.process for server in made.servers.values())]))
        run = Run(made, client, others, options, results)
        for size in options.sizes:
            chosen = [part for part in options.parts if size in options.sizes_of(part)]
            if chosen:
                filled[str(size)] = _filled(made, size)
            for part in chosen:
                _part(run, part)
        peers = _peers(made)
    results.about = {
        "date": str(dt.datetime.now(tz=dt.UTC).date()),
        "criimage": __version__,
        "machine": _machine(),
        "peers": peers,
        "client": f"grpcio {grpc.__version__}, {CLIENTS} processes for 16 in flight",
        "options": asdict(options),
        "nice": os.nice(0),
        "load": {"before": before, "after": load()},
        "filled": filled,
        "seconds": time.monotonic() - began,
    }
    return results


@contextmanager
def _preferred(processes: Sequence[int]) -> Iterator[None]:
    """Gives the processes' sessions the niceness of this one: among sessions the kernel may not look at theirs.

    The session that this one was started in has its own again afterwards.
    """
    places = [place for process in processes if (place := Path(f"/proc/{process}/autogroup")).exists()]
    if not os.nice(0) or not places:
        yield
        return
    before = places[0].read_text().split()[-1]
    for place in places:
        place.write_text(str(os.nice(0)))
    try:
        yield
    finally:
        places[0].write_text(before)


def _filled(made: Node, size: int) -> dict[str, float]:
    began = time.monotonic()
    seconds = made.fill(size)
    each = ", ".join(f"{name} {one:.0f}" for name, one in seconds.items())
    _note(f"stores have {size} images ({time.monotonic() - began:.0f} s: {each})")
    return seconds


def _part(run: Run, part: str) -> None:
    began = time.monotonic()
    try:
        PARTS[part](run)
    except Exception as error:
        logging.getLogger("benchmarks").exception("%s failed", part)
        run.results.missing[part] = f"{type(error).__name__}: {error}"[:300].replace("\n", " ")
    _note(f"{part} with {run.images} images measured ({time.monotonic() - began:.0f} s), load {load()[0]}")


def _peers(made: Node) -> str:
    def first_line(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]

    found = [" ".join(first_line("containerd", "--version").split()[:3:2]), first_line("skopeo", "--version")]
    if made.engine is not None:
        found.append(f"Docker engine {made.engine.ask('GET', '/version').json()['Version']}")
    return ", ".join(found)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    return f"Python {platform.python_version()}, {os.cpu_count()} x {model}, Linux {platform.release()}"


def _options(arguments: argparse.Namespace) -> Options:
    sizes = sorted({int(one) for one in arguments.images.split(",")} | ({_TEN_THOUSAND} & {arguments.more}))
    parts = tuple(part for part in PARTS if part in arguments.only.split(","))
    return Options(parts, tuple(sizes), arguments.rounds)


def main(arguments: Sequence[str]) -> int:
    """Measures, prints, and writes what is asked for; 1 if a part could not be measured."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measures criimage beside others in one run.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--images", default="10,100,1000", help="numbers of images in the stores")
    parser.add_argument(
        "--ten-thousand", dest="more", action="store_const", const=_TEN_THOUSAND, help="10000 too, by real pulls"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--nice", type=int, default=0, help="of everything that is started; -15 on a busy machine")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--plot", type=Path, help="draw the picture there, SVG")
    parser.add_argument("--from", dest="source", type=Path, help="measure nothing: take the numbers from there")
    parser.add_argument("--write-docs", action="store_true", help="put tables, numbers and picture into docs/")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.only.split(",")) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if chosen.nice:
        os.nice(chosen.nice)
    # Whoever ends it early leaves nothing behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        results = Results.parse(chosen.source.read_text()) if chosen.source else measure(_options(chosen))
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        sys.stderr.write(f"benchmarks: {reason}\n")
        return 1
    sys.stdout.write(markdown(results))
    for place, text in ((chosen.json, results.json), (chosen.plot, lambda: svg(results))):
        if place:
            place.write_text(text())
    if chosen.write_docs:
        write_docs(results)
    return int(bool(results.missing))


def write_docs(results: Results) -> None:
    """Puts a run's tables, numbers and picture into the documentation."""
    _NUMBERS.write_text(results.json())
    _PICTURE.write_text(svg(results))
    _PAGE.write_text(placed(_PAGE.read_text(), markdown(results, f"pictures/{_PICTURE.name}")))


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
