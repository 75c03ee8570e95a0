"""Every question for a file is asked by `criimage.files`: no other way to ask is left in the code (issue 14, A5)."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

OTHER_WAYS = frozenset(
    (
        *("exists", "is_dir", "is_file", "is_symlink", "is_mount", "is_socket", "is_fifo", "is_block_device"),
        *("is_char_device", "is_junction", "glob", "rglob", "iterdir", "lexists", "isdir", "isfile", "islink"),
        *("ismount", "listdir", "scandir", "walk", "fwalk", "iglob"),
    )
)
"""Methods of Path and functions of os, os.path and glob that swallow what went wrong, on one Python or all, or let an
OSError through that nobody expects."""

STORAGE = "backends/criimage_containers_storage"
PROC = "the kernel's list of processes: one that ends meanwhile is gone"
OWN = "a temporary folder of the process's own, made a moment ago"
SHIPPED = "files that come with the package, read by importlib"
ALLOWED = {
    ("criimage/files.py", "listdir"): "the one way itself",
    ("criimage/server/signals.py", "iterdir"): PROC,
    (f"{STORAGE}/pulling/orphans.py", "glob"): PROC,
    (f"{STORAGE}/pulling/process.py", "glob"): PROC,
    (f"{STORAGE}/store/busy.py", "glob"): PROC,
    (f"{STORAGE}/store/busy.py", "iterdir"): PROC,
    (f"{STORAGE}/pulling/progress.py", "iterdir"): PROC,
    (f"{STORAGE}/pulling/progress.py", "glob"): OWN,
    ("criimage/conformance/known/__init__.py", "iterdir"): SHIPPED,
    ("criimage/testing/scale.py", "is_file"): SHIPPED,
    ("backends/criimage_cri/upstream.py", "exists"): "asks a runtime, not a disk",
    (
        f"{STORAGE}/config_files.py",
        "scandir",
    ): "tells an error with the path, and needs each entry's kind without a stat",
    (
        f"{STORAGE}/examination.py",
        "ismount",
    ): "only where a trial is made; what cannot be looked at is no place for one",
    ("criimage/disk_usage.py", "scandir"): "a figure: what another user has closed, or what vanishes, is not in it",
    (f"{STORAGE}/store/usage.py", "scandir"): "a figure: what another user has closed, or what vanishes, is not in it",
}
"""Where something else is asked, or in another way, and why that may be."""


def asked(source: str) -> Iterator[str]:
    """The names of other ways to ask that a text of Python uses: called, handed on as a value, or imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in OTHER_WAYS:
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "os.path", "glob"}:
            yield from (one.name for one in node.names if one.name in OTHER_WAYS)


def found() -> Counter[tuple[str, str]]:
    """How often each file of the package and of its backends asks in another way, by file and name."""
    return Counter(
        (str(file.relative_to(ROOT)), name)
        for top in ("criimage", "backends")
        for file in sorted((ROOT / top).rglob("*.py"))
        for name in asked(file.read_text("utf-8"))
    )


def test_there_is_one_way_to_ask() -> None:
    """Whoever asks whether there is a file, or what is in a folder, is told when nobody can tell."""
    assert found().keys() - ALLOWED.keys() == set(), "ask by criimage.files, or say here why not"


def test_what_is_allowed_is_still_there() -> None:
    """An exception whose reason is gone does not stay for another question in the same file."""
    assert ALLOWED.keys() - found().keys() == set()


@pytest.mark.parametrize(
    "source",
    ["Path('x').exists()", "any(map(Path.is_dir, y))", "os.path.isfile(x)", "from os.path import isdir", "os.walk(x)"],
)
def test_each_other_way_is_seen(source: str) -> None:
    """A call, a method handed on, a function of os.path and an imported one are all questions."""
    assert list(asked(source))
