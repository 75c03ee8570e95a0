"""Hours of mixed traffic at a server of each backend, with restarts; ends with tables, a picture and a verdict.

    python -m soak [SECONDS] [--backend NAME]... [--folder FOLDER]

Ends with 1 if anything grew, failed where it should not, or was a fault of criimage's by its own log.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import platform
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from criimage import __version__
from parts import versions
from soak.node import BACKENDS
from soak.plot import svg
from soak.report import markdown, row
from soak.run import soaked

HOUR = 3600.0
_BUILD = Path(__file__).parent.parent.parent / "build" / "soak"


def main() -> int:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(prog="soak", description="Hours of mixed traffic, with restarts.")
    parser.add_argument("seconds", type=float, nargs="?", default=HOUR)
    parser.add_argument("--backend", action="append", choices=BACKENDS)
    parser.add_argument("--folder", type=Path, default=_BUILD)
    chosen = parser.parse_args()
    backends = chosen.backend or list(BACKENDS)
    say = partial(print, flush=True)
    for line in versions.lines():
        say(line)
    run = asyncio.run(soaked(chosen.seconds, backends, say))
    chosen.folder.mkdir(parents=True, exist_ok=True)
    samples = {backend: [asdict(one) for one in taken] for backend, taken in run.samples.items()}
    (chosen.folder / "soak.json").write_text(json.dumps({"samples": samples, "restarts": run.restarts}))
    (chosen.folder / "soak.svg").write_text(svg(dict(run.samples), run.restarts, run.seconds))
    for backend, text in run.logs.items():
        (chosen.folder / f"{backend}.log").write_text(text)
    say(markdown(run))
    own = f"criimage {__version__}, Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}"
    say(row(run, dt.datetime.now(tz=dt.UTC).date().isoformat(), own))
    say(f"numbers, picture and logs: {chosen.folder}")
    complaints = run.complaints()
    for complaint in complaints[:50]:
        say(f"NOT AS IT SHOULD BE: {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
