"""A real Prometheus that looks at servers of the tests, in a folder of its own on a port of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from parts.child import child, free_port
from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line of an answer: its labels, and its values by seconds since the epoch."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one.

    Attributes:
        address: where it answers.
    """

    address: str

    def range(self, query: str, begin: float, end: float, step: float) -> list[Series]:
        """Evaluate a query at each step of a time.

        Raises:
            AssertionError: it is no query, or cannot be evaluated.
        """
        found = self._ask("query_range", {"query": query, "start": begin, "end": end, "step": step})
        return [
            Series(one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in found["result"]
        ]

    def now(self, query: str) -> list[Series]:
        """Evaluate a query now; raises as `range` does."""
        found = self._ask("query", {"query": query})
        return [Series(one["metric"], [(float(one["value"][0]), float(one["value"][1]))]) for one in found["result"]]

    def rules(self) -> dict[str, str]:
        """Each alert by its name, with its health as Prometheus evaluates it."""
        return {one["name"]: one["health"] for group in self._ask("rules", {})["groups"] for one in group["rules"]}

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _ask(self, what: str, parameters: Mapping[str, object]) -> Any:  # noqa: ANN401 - JSON
        try:
            with urllib.request.urlopen(
                f"http://{self.address}/api/v1/{what}?{urlencode(parameters)}", timeout=30
            ) as page:
                return json.load(page)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error


@contextlib.contextmanager
def prometheus(targets: Mapping[str, str], *, seconds: float = 1.0, rules: str = "") -> Iterator[Prometheus]:
    """Run one until the block is left.

    Args:
        targets: the `instance` that is shown of each, and its `HOST:PORT`.
        seconds: between two looks at them, and between evaluations of rules.
        rules: text of a file of rules.
    """
    need("prometheus")
    folder = Path(tempfile.mkdtemp(prefix="criimage-prometheus-"))
    try:
        (folder / "rules.yml").write_text(rules)
        jobs = [{"targets": [address], "labels": {"instance": name}} for name, address in targets.items()]
        config = {
            "global": {"scrape_interval": f"{seconds * 1000:.0f}ms", "scrape_timeout": f"{seconds * 1000:.0f}ms"},
            "rule_files": [str(folder / "rules.yml")] if rules else [],
            "scrape_configs": [{"job_name": "criimage", "static_configs": jobs}],
        }
        config["global"] |= {"evaluation_interval": f"{seconds * 1000:.0f}ms"}  # type: ignore[operator]
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        made = Prometheus(f"127.0.0.1:{free_port()}")
        command = [
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address={made.address}",
        ]
        with child("prometheus", command, folder / "log") as process:
            process.wait_until(made.ready, seconds=_SECONDS)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
