"""`criimage pull`, `criimage pulls` and `criimage pulls cancel` against a running server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from cli.command import COMMAND
from criimage.backend import Phase, PullProgress
from parts.serving import PATIENCE, WatchedBackend, serving, stocked, until
from pulls.terminal import on_a_terminal

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from criimage.backend import Image, ProgressReporter, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Reference
    from parts.serving import Serving

FIELDS = {"id", "reference", "resolved", "phase", "bytes_done", "bytes_total", "layers_done", "layers_total"}
FIELDS |= {"started", "waiters"}


class ReportingBackend(WatchedBackend):
    """Its downloads report what a test says.

    Attributes:
        reports: of every pull, the oldest first.
    """

    def __init__(self) -> None:
        super().__init__(stocked())
        self.reports: list[ProgressReporter] = []

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        """Keeps the reporter."""
        self.reports.append(report)
        return await super().pull(reference, credentials, context, report)


@dataclass(frozen=True, slots=True)
class Served:
    """A server whose downloads wait, and what commands need to find it."""

    server: Serving
    backend: ReportingBackend
    processes: list[Process] = field(default_factory=list)

    def endpoint(self) -> tuple[str, str]:
        """The arguments that lead a command here."""
        return "--endpoint", f"unix://{self.server.path}"

    async def start(self, *arguments: str) -> Process:
        """Starts a command without a terminal."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "criimage",
            *arguments,
            *self.endpoint(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.processes.append(process)
        return process

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        """Runs a command to its end: code, output and errors."""
        return await ended(await self.start(*arguments))

    async def downloads(self, count: int) -> None:
        """Waits until so many downloads have begun."""
        await until(lambda: len(self.backend.downloads) == count)

    def report(self, done: int, phase: Phase = Phase.DOWNLOADING, **more: Any) -> None:  # noqa: ANN401
        """Has the last pull report."""
        self.backend.reports[-1](PullProgress(phase, done, 1000, **more))


async def ended(process: Process) -> tuple[int | None, str, str]:
    """Waits for a command's end."""
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    backend = ReportingBackend()
    backend.open.clear()
    async with serving(folder, backend) as server:
        made = Served(server, backend)
        try:
            yield made
        finally:
            for process in made.processes:
                if process.returncode is None:
                    process.kill()
                await process.communicate()


async def test_one_document_of_what_runs(tmp_path: Path) -> None:
    """The fields of design section 7, plain numbers; times in seconds since the epoch."""
    async with served(tmp_path) as at:
        pull = await at.start("pull", "example.com/a:1")
        await at.downloads(1)
        at.report(400, layers_done=1, layers_total=3, layers_reused=2)
        code, out, _ = await at.run("pulls", "--output", "json")
        assert code == 0
        (found,) = json.loads(out)["pulls"]
        assert set(found) >= FIELDS
        assert found["started"] > 10**9
        assert {key: found[key] for key in ("id", "reference", "resolved", "phase", "waiters")} == {
            "id": "1",
            "reference": "example.com/a:1",
            "resolved": "example.com/a:1",
            "phase": "downloading",
            "waiters": [],
        }
        numbers = ("bytes_done", "bytes_total", "layers_done", "layers_total", "layers_reused")
        assert [found[key] for key in numbers] == [400, 1000, 1, 3, 2]
        code, out, _ = await at.run("pulls")
        assert code == 0
        assert "400B / 1kB" in out
        assert "1/3 +2 here" in out
        at.backend.open.set()
        await ended(pull)
        assert (await at.run("pulls"))[1] == "No pulls are running.\n"


async def test_plain_lines_of_a_pull(tmp_path: Path) -> None:
    """Not on a terminal: a line for each phase on standard error, the last one included; the answer on the other."""
    async with served(tmp_path) as at:
        pull = await at.start("pull", "example.com/a:1")
        await at.downloads(1)
        assert pull.stderr is not None
        first = await pull.stderr.readline()
        assert first.startswith(b"example.com/a:1  ")
        at.report(1000, Phase.UNPACKING, layers_done=2, layers_total=2)
        while b"unpacking" not in (line := await pull.stderr.readline()):
            assert line
        assert line.startswith(b"example.com/a:1  unpacking  1kB / 1kB  2/2")
        at.backend.open.set()
        code, out, rest = await ended(pull)
        assert (code, rest) == (0, "example.com/a:1  done  1kB / 1kB\n")
        assert out.strip() == str(at.backend.downloads[0].id)
        assert "\x1b" not in rest


async def test_a_pull_too_short_to_be_seen_is_seen(tmp_path: Path) -> None:
    """Its last line comes all the same; an equal name in another form as well; --quiet says nothing."""
    async with served(tmp_path) as at:
        at.backend.open.set()
        for name in ("example.com/a:1", "busybox"):
            code, _, err = await at.run("pull", name)
            assert code == 0
            assert err.splitlines()[-1].startswith(f"{name}  done")
        assert (await at.run("pull", "-q", "busybox"))[2] == ""
        code, out, err = await at.run("pull", "busybox", "--output", "json")
        assert (list(json.loads(out)), err) == (["image_ref"], "")
        code, _, err = await at.run("pull", "example.com/none")
        assert code == 1
        assert err.splitlines()[-1] == "Error: manifest unknown: example.com/none:latest"


async def test_watching_as_json_lines(tmp_path: Path) -> None:
    """One document a line, at once and after every change."""
    async with served(tmp_path) as at:
        watch = await at.start("pulls", "--watch", "--output", "json")
        assert watch.stdout is not None
        assert json.loads(await watch.stdout.readline()) == {"pulls": []}
        pull = await at.start("pull", "-q", "example.com/a:1")
        await at.downloads(1)
        at.report(700)
        seen: list[Any] = []
        while not seen or seen[-1]["bytes_done"] != 700:
            seen += json.loads(await watch.stdout.readline())["pulls"]
        at.backend.open.set()
        await ended(pull)
        while seen[-1]["phase"] != "done":
            seen += json.loads(await watch.stdout.readline())["pulls"]
        assert json.loads(await watch.stdout.readline()) == {"pulls": []}
        amounts = [found["bytes_done"] for found in seen]
        assert amounts == sorted(amounts)
        assert all(set(found) >= FIELDS for found in seen)
        watch.send_signal(signal.SIGINT)
        code, _, errors = await ended(watch)
        assert (code, errors) == (0, "")


async def test_watching_as_plain_lines(tmp_path: Path) -> None:
    """Not on a terminal: lines that a log can take, without colours or cursor movements."""
    async with served(tmp_path) as at:
        watch = await at.start("pulls", "--watch")
        assert watch.stdout is not None
        pull = await at.start("pull", "-q", "example.com/a:1")
        await at.downloads(1)
        line = await watch.stdout.readline()
        assert line.startswith(b"example.com/a:1  ")
        at.backend.open.set()
        await ended(pull)
        while b"done" not in line:
            line = await watch.stdout.readline()
            assert b"\x1b" not in line
            assert line


async def test_nothing_is_drawn_above_an_error(tmp_path: Path) -> None:
    """On a terminal, where nothing has been shown yet: the error alone, of a watch and of a pull."""
    endpoint = ("--endpoint", f"unix://{tmp_path}/none")
    for arguments in (("pulls", "--watch"), ("pull", "example.com/a:1")):
        async with on_a_terminal(*arguments, *endpoint) as terminal:
            assert await terminal.ended() == 1
            await terminal.shows("Error: ")
            assert terminal.text.strip().startswith("Error: ")
            assert "No pulls" not in terminal.text


async def test_ids_and_images_are_completed(tmp_path: Path) -> None:
    """By what the service knows now, with what each is; without a service there are no words, and no errors."""
    async with served(tmp_path) as at:
        pull = await at.start("pull", "-q", "example.com/a:1")
        await at.downloads(1)
        endpoint = f"--endpoint {at.endpoint()[1]}"
        assert await offered(f"criimage pulls {endpoint} cancel ") == ["1"]
        assert await offered(f"criimage pulls cancel {endpoint} ") == ["1"]
        assert await completed(f"criimage pulls cancel {endpoint} 2") == []
        assert await completed(f"criimage removals cancel {endpoint} ") == []
        at.backend.open.set()
        await ended(pull)
        for command in ("images", "inspect", "rmi", "pull"):
            assert "example.com/a:1" in await offered(f"criimage {command} {endpoint} example.com/")
        assert await completed(f"criimage inspect {endpoint} nothing") == []
    assert await completed(f"criimage inspect {endpoint} ") == []


async def offered(words: str) -> list[str]:
    """The same where there has to be something: a shell waits for a second, in which a busy machine may not answer."""
    for _ in range(10):
        if found := await completed(words):
            return found
    return []


async def completed(words: str) -> list[str]:
    """What bash would be offered behind these words."""
    count = words.count(" ")
    environment = {**os.environ, "_CRIIMAGE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    _, out, err = await ended(process)
    assert err == ""
    return [line.partition(",")[2] for line in out.splitlines() if line]


@pytest.mark.parametrize("form", ["table", "json"])
async def test_the_operator_sees_and_ends_a_removal(tmp_path: Path, form: str) -> None:
    """`removals` lists it with what it waits for, `removals cancel ID` ends it; whoever waits is told."""
    async with served(tmp_path) as at:
        at.backend.open.set()
        await at.run("pull", "-q", "example.com/a:1")
        at.backend.open.clear()
        assert (await at.run("removals"))[:2] == (0, "No removals are running.\n")
        removal = await at.start("rmi", "example.com/a:1")
        await until(lambda: at.backend.removals == 1)
        code, out, _ = await at.run("removals", "--output", form)
        assert code == 0
        if form == "json":
            (found,) = json.loads(out)["removals"]
            assert found.keys() == {"id", "image", "image_id", "waiting_for", "stopping", "started", "waiters"}
            assert (found["id"], found["waiters"], found["stopping"]) == ("1", 1, False)
            assert found["started"] > 10**9
        else:
            assert "waits for the store to remove the image" in out
        code, out, _ = await at.run("removals", "cancel", "1", "--output", form)
        assert code == 0
        assert out == "Cancelled: 1\n" if form == "table" else json.loads(out) == {"cancelled": "1"}
        code, _, err = await ended(removal)
        assert code == 1
        assert err.startswith("Error: removal cancelled by the operator, it waited for the store to remove the image: ")
        assert err.endswith("; the image is still there\n")
        assert await at.run("removals", "cancel", "1") == (1, "", "Error: no such removal is running\n")


async def test_a_server_that_goes_ends_the_watch(tmp_path: Path) -> None:
    """With an error, in one line."""
    async with served(tmp_path) as at:
        watch = await at.start("pulls", "--watch", "--output", "json")
        assert watch.stdout is not None
        await watch.stdout.readline()
        await at.server.assembly.stop()
        code, _, err = await ended(watch)
        assert code == 1
        assert err.count("\n") == 1
        assert err.startswith("Error: ")


async def test_the_live_table(tmp_path: Path) -> None:
    """On a terminal: bars that move, seconds that go on, what ended stays for a moment; Ctrl-C ends it in order."""
    async with served(tmp_path) as at, on_a_terminal("pulls", "--watch", *at.endpoint()) as terminal:
        await terminal.shows("No pulls are running")
        pull = await at.start("pull", "-q", "example.com/a:1")
        await at.downloads(1)
        at.report(250, layers_done=1, layers_total=4)
        await terminal.shows(r"example.com/a:1\s+downloading\s+[━╸╺]+.*250B / 1kB.*1/4")
        await terminal.shows(r"\b[1-9]\d*s\s+1\s")  # which second is seen, who knows
        at.report(1000, Phase.UNPACKING, layers_done=4, layers_total=4)
        await terminal.shows(r"unpacking\s+━+\s+1kB / 1kB")
        at.backend.open.set()
        await ended(pull)
        await terminal.shows(r"example.com/a:1\s+done\s+━+")
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.ended() == 0
        assert "Traceback" not in terminal.text
        assert "Aborted" not in terminal.text
        assert terminal.output.count(b"\x1b[?25h")  # the cursor is shown again


async def test_the_bar_of_a_pull(tmp_path: Path) -> None:
    """`criimage pull` on a terminal shows its own pull and no other, and then the answer."""
    async with served(tmp_path) as at:
        other = await at.start("pull", "-q", "example.com/b:1")
        await at.downloads(1)
        async with on_a_terminal("pull", "example.com/a:1", *at.endpoint()) as terminal:
            await at.downloads(2)
            at.report(500)
            await terminal.shows(r"example.com/a:1\s+downloading\s+[━╸╺]+.*500B / 1kB")
            at.backend.open.set()
            assert await terminal.ended() == 0
            await terminal.shows(str(at.backend.downloads[1].id))
            assert "done" in terminal.text
            assert "example.com/b:1" not in terminal.text
        await ended(other)


@pytest.mark.parametrize("form", ["table", "json"])
async def test_the_operator_ends_a_pull(tmp_path: Path, form: str) -> None:
    """`pulls cancel ID`; whoever waits is told; an unknown ID is an error with code 1."""
    async with served(tmp_path) as at:
        pull = await at.start("pull", "-q", "example.com/a:1")
        await at.downloads(1)
        code, out, _ = await at.run("pulls", "cancel", "1", "--output", form)
        assert code == 0
        assert out == "Cancelled: 1\n" if form == "table" else json.loads(out) == {"cancelled": "1"}
        assert await ended(pull) == (1, "", "Error: cancelled by the operator: example.com/a:1\n")
        assert at.backend.cancelled
        assert await at.run("pulls", "cancel", "1") == (1, "", "Error: no such pull is running\n")
