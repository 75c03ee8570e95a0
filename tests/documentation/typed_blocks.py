"""Which test types which block of commands of README and the pages, and how a command that goes on is typed.

A block is typed as it stands there. Three things only are done otherwise, each in this one place: a server that a page
leaves running in a terminal of its own is waited for until it answers (`SERVING`), a command that goes on until Ctrl-C
gets it as soon as it has shown what it should (`watched`), and what CI itself is (`make test`) is left out.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from documentation.pages import DOCS, PROJECT, blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LANGUAGES = "sh|console"
CI = ".ci/run"
"""What runs `make test` and nothing else."""


@dataclass(frozen=True, slots=True)
class Untyped:
    """Why no test types a block.

    Attributes:
        reason: what a machine of tests has not.
    """

    reason: str


_HOURS = Untyped("takes ten minutes to hours; run by hand, its last results are on the page")
_CLUSTER = Untyped("needs a cluster; the page says that it was not run")
_MEASURED = Untyped("measures a registry, an image and a runtime of the reader's own")

By = str | tuple[str, ...] | Untyped
_README = "test_the_readme"
_FIRST_STEPS = "test_the_first_steps"
_KUBELET = "test_a_kubelet_on_one_socket"
_WHOLE = "test_an_upgrade_and_the_end"
_UNITS = "test_a_unit_from_its_installation_to_its_end"
_RUNTIME = "test_in_front_of_a_runtime"
_LOOKS = "test_a_look_at_a_server"
_PULLS = "test_pulls_and_removals"
_METRICS = "test_metrics_and_health"
_EXAMPLE = "test_the_commands_of_the_page"

TYPED: Mapping[str, tuple[By, ...]] = {
    "README": (_README, _README, _README, _README, CI),
    "CONTRIBUTING": ("test_what_a_contributor_types", _HOURS),
    "docs/index": (_WHOLE,),
    "docs/tutorials/first-steps": (
        *(_FIRST_STEPS, _FIRST_STEPS, _FIRST_STEPS),
        "test_what_is_missing_is_told_as_the_page_has_it",
        *(_FIRST_STEPS, _FIRST_STEPS, _FIRST_STEPS),
    ),
    "docs/tutorials/first-kubelet": (_KUBELET,) * 5,
    "docs/guide/install": (
        (_UNITS, _WHOLE),
        (_UNITS, _WHOLE),
        "test_a_package_of_ones_own",
        "test_a_package_of_ones_own",
    ),
    "docs/guide/systemd": ((_UNITS, _WHOLE),) * 4,
    "docs/guide/metrics-and-logs": ((_METRICS, _WHOLE), _WHOLE, (_METRICS, _WHOLE)),
    "docs/guide/upgrade": (_WHOLE,),
    "docs/guide/uninstall": ((_UNITS, _WHOLE), "test_a_package_of_ones_own"),
    "docs/guide/pulls": (_PULLS, _PULLS, _PULLS),
    "docs/guide/limits": ("test_limits",),
    "docs/guide/pinning": ("test_pinning",),
    "docs/guide/mirrors": ("test_mirrors", "test_mirrors"),
    "docs/guide/private-registries": ("test_private_registries",) * 3,
    "docs/guide/crictl": (_LOOKS, _LOOKS),
    "docs/guide/troubleshooting": (_LOOKS,),
    "docs/guide/moving": (_LOOKS, _LOOKS),
    "docs/guide/kubelet": (_RUNTIME,),
    "docs/guide/one-socket": (_RUNTIME, _CLUSTER, _RUNTIME, _CLUSTER, _RUNTIME, _RUNTIME),
    "docs/conformance": ("test_a_runtime_is_judged",),
    "docs/writing-a-backend": (_EXAMPLE, _EXAMPLE, _EXAMPLE),
    "docs/long-runs": (_HOURS, _HOURS, _HOURS),
    "docs/performance": (_HOURS, _HOURS, _MEASURED),
}
"""For each page with blocks of commands, by its path without the ending, who types them, in the page's order."""

SERVING = """
criimage serve &
until criimage status; do kill -0 $!; sleep 0.2; done
"""
"""A server that a page leaves running in one terminal while the rest is typed in another."""

# With job control, as a terminal has it: without, what runs in the background would not hear of Ctrl-C.
_WATCHED = """
set -m; {line} >~/watched 2>&1 & set +m
until grep -q {seen} ~/watched; do kill -0 $!; sleep 0.1; done
kill -INT $!
wait $! || test $? = 130
cat ~/watched
"""


def every_page() -> list[Path]:
    """All that is read, README first."""
    return [*(PROJECT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *sorted(DOCS.rglob("*.md"))]


def path_of(file: Path) -> str:
    """How `TYPED` calls a page."""
    return str(file.relative_to(PROJECT).with_suffix(""))


def command_blocks(page: str) -> list[str]:
    """The blocks of commands of a page, as they stand there.

    Args:
        page: as `TYPED` calls it.
    """
    return blocks((PROJECT / f"{page}.md").read_text("utf-8"), LANGUAGES)


def blocks_for(test: str, page: str) -> list[str]:
    """The blocks of a page that a test types, in the page's order.

    Args:
        test: its name; `test_each_block_is_asked_for` holds that it is the one that asks.
        page: as `TYPED` calls it.
    """
    named = zip(command_blocks(page), TYPED[page], strict=True)
    return [block for block, by in named if test == by or (isinstance(by, tuple) and test in by)]


def watched(commands: str, line: str, seen: str) -> str:
    """Has one of these commands, which goes on until Ctrl-C, do so until it has shown something.

    Args:
        commands: of a page.
        line: the command, which must be one of them.
        seen: what it must have shown; a basic regular expression.
    """
    lines = commands.splitlines()
    (place,) = (at for at, one in enumerate(lines) if one.split("#")[0].strip() == line)
    lines[place] = _WATCHED.format(line=line, seen=shlex.quote(seen))
    return "\n".join(lines)
