"""Takes a sample of all small changes of the code and counts those that the quick tests notice.

Works in a copy of the project; each change is tried in a process of its own, forked from one that has the libraries
loaded. Survivors are printed at the end, the score last.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import hashlib
import importlib
import os
import py_compile
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from mutation.equivalent import EQUIVALENT
from mutation.modules import TESTS, file_of, tests_of
from mutation.operators import Mutant, mutant, places
from mutation.results import HARMLESS, NOTICED, SURVIVED, TOO_LONG, UNUSABLE, Results, Tried, digest_of, score

PROJECT = Path(__file__).parent.parent.parent
CPU_SECONDS = 20
"""For a change's tests; one that makes them take longer is noticed."""
WALL_SECONDS = 600.0
"""Ends a change that makes its tests wait; large because the machine may be busy."""
_LIBRARIES = (
    "aiodocker",
    "betterproto",
    "blockbuster",
    "google.protobuf.descriptor_pb2",
    "grpc",
    "grpclib.server",
    "h2.connection",
    "prometheus_client",
    "pydantic",
    "rich.console",
    "structlog",
)
"""What takes long to import and is no plugin of pytest's: that wants to import those itself."""


def main() -> None:
    """Prints a line for each survivor and the score."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same sample of the same code")
    parser.add_argument("--count", type=int, default=300, help="how many changes are in the sample")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no other after this time")
    parser.add_argument("--results", type=Path, help="what is known stands in this file, and is not tried again")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--again", action="store_true", help="but what survived is: there may be tests for it by now")
    parser.add_argument("modules", nargs="*", help="only these files, folders or FILE:LINE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="criimage-mutation-") as folder:
        file = options.results.absolute() if options.results else Path(folder) / "results"
        copied = _copy(PROJECT, Path(folder) / "0")
        chosen = _sample(copied, options)
        workers = [
            _worker(_copy(copied, Path(folder) / str(number)), chosen[number - 1 :: options.jobs], file, options)
            for number in range(1, options.jobs + 1)
        ]
        for worker in workers:
            os.waitpid(worker, 0)
        known = Results(file)
        tried = [_judged(one, copied) for module, number in chosen if (one := _known(known, copied, module, number))]
    for one in sorted(tried, key=lambda one: (one.module, one.line)):
        if one.result == SURVIVED:
            _say(f"survived: {one.module}:{one.line}: {one.what}")
    _say(f"{score(tried)}; seed {options.seed}, {len(chosen) - len(tried)} of {len(chosen)} not tried yet")


def _worker(copied: Path, chosen: list[tuple[str, int]], file: Path, options: argparse.Namespace) -> int:
    """Begins a process that tries these in its own copy, and returns its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        _load(copied)
        _try_all(copied, chosen, Results(file), options)
        code = 0
    except BaseException:  # noqa: BLE001 - a process of its own must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def _try_all(copied: Path, chosen: list[tuple[str, int]], known: Results, options: argparse.Namespace) -> None:
    ends = time.monotonic() + options.seconds
    sound: dict[tuple[str, ...], bool] = {}
    for module, number in chosen:
        if time.monotonic() > ends:
            break
        text = (copied / module).read_text()
        before = _known(known, copied, module, number)
        if before and before.result != UNUSABLE and not (options.again and before.result == SURVIVED):
            continue
        tests = tests_of(module)
        if tests not in sound:
            sound[tests] = _are_sound(copied, tests, known)
        made = mutant(text, number)
        result = _try(copied, module, made, tests) if sound[tests] else UNUSABLE
        known.add(Tried(module, digest_of(text), number, made.line, made.what, result))


def _known(known: Results, copied: Path, module: str, number: int) -> Tried | None:
    """Tell what came of a change; None too if the number stood for another one when that was tried."""
    text = (copied / module).read_text()
    one = known.of(module, digest_of(text), number)
    if one is None:
        return None
    made = mutant(text, number)
    return one if (one.line, one.what) == (made.line, made.what) else None


def _are_sound(copied: Path, tests: tuple[str, ...], known: Results) -> bool:
    """Whether they pass without any change; looked at once for each text of theirs and each Python that runs them."""
    name = " ".join(tests)
    texts = [sys.version, sys.prefix]
    texts += [file.read_text() for test in tests for file in sorted(_files(copied / "tests" / file_of(test)))]
    digest = digest_of("".join(texts))
    before = known.of(name, digest, -1)
    if before is None:
        before = Tried(name, digest, -1, 0, "nothing", _run(copied, tests))
        known.add(before)
    if before.result != SURVIVED:
        _say(f"not usable: {name} fail or take too long without any change")
    return before.result == SURVIVED


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _judged(one: Tried, copied: Path) -> Tried:
    line = (copied / one.module).read_text().splitlines()[one.line - 1].strip()
    if one.result == SURVIVED and (one.module, line, one.what) in EQUIVALENT:
        return replace(one, result=HARMLESS)
    return one


def _sample(copied: Path, options: argparse.Namespace) -> list[tuple[str, int]]:
    """The first of all changes in an order that a change of another module leaves as it is."""
    lines = {tuple(one.split(":")) for one in options.modules if ":" in one}
    only = [one for one in options.modules if ":" not in one]
    files = {file for prefix in TESTS for file in _files(copied / prefix)}
    names = sorted(str(file.relative_to(copied)) for file in files)
    every = []
    for name in names:
        text = (copied / name).read_text()
        if not options.modules or any(name == one or name.startswith(f"{one}/") for one in only):
            every += [(name, number) for number in range(places(text))]
        elif any(name == file for file, _ in lines):
            numbers = range(places(text))
            every += [(name, number) for number in numbers if (name, str(mutant(text, number).line)) in lines]
    every.sort(key=lambda one: hashlib.sha256(f"{options.seed} {one[0]} {one[1]}".encode()).digest())
    return every[: options.count]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [*path.rglob("*.py")]


def _copy(project: Path, folder: Path) -> Path:
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "_build")
    copied = Path(shutil.copytree(project, folder, ignore=ignored))
    # By what they were made of, not by time: a changed file is never taken for the old one.
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(copied, quiet=2, invalidation_mode=mode)
    return copied


def _load(copied: Path) -> None:
    """Makes this process what each test process begins as."""
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(copied), str(copied / "backends"), str(copied / "tests")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.chdir(copied)
    for library in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)


def _try(copied: Path, module: str, made: Mutant, tests: tuple[str, ...]) -> str:
    file = copied / module
    before = file.read_text()
    file.write_text(made.text)
    try:
        return _run(copied, tests)
    finally:
        file.write_text(before)


def _run(copied: Path, tests: tuple[str, ...]) -> str:
    process = os.fork()
    if process == 0:
        _become_tests(copied, tests)
    ends = time.monotonic() + WALL_SECONDS
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() > ends:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return TOO_LONG
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        # What a changed program left behind.
        os.killpg(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    if code in {-signal.SIGXCPU, -signal.SIGKILL}:
        return TOO_LONG
    return SURVIVED if code == 0 else NOTICED


def _become_tests(copied: Path, tests: tuple[str, ...]) -> NoReturn:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    # pytest's own modules were loaded from the project itself; criimage never was.
    chosen = [str(copied / "tests" / test) for test in tests]
    quiet = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not engine and not long"]
    code = 1
    try:
        code = int(pytest.main([*quiet, "--timeout=100", *chosen]))
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
