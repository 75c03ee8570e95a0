"""What the command says: outcomes, exit codes, reports, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from contextlib import AsyncExitStack
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from cli.command import COMMAND
from conformance.planted.fault import Sound
from criimage.channel import Channel
from criimage.conformance import run as conformance_run
from criimage.conformance.behaviour import GROUPS, Behaviour, Level, Need, collected, selected
from criimage.conformance.client import Client
from criimage.conformance.exchange import shown
from criimage.conformance.known import read_known, shipped
from criimage.conformance.outcome import Failed, Outcome, Result, Summary
from criimage.conformance.report.document import document
from criimage.conformance.report.junit import junit
from criimage.conformance.report.page import page
from criimage.conformance.report.text import result_lines, summary_lines
from criimage.conformance.run import CannotRun, Plan, run
from criimage.conformance.supply import PASSWORD
from criimage.cri.runtime import v1
from criimage.errors import ConfigurationError, OperationFailed
from criimage.testing.scripted_registry import scripted_registry
from documentation.pages import page as page_text
from parts.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.conformance.trial import Trial
    from criimage.reference import Lookup


def behaviour(number: str, check: object, needs: Need = Need.NOTHING) -> Behaviour:
    """A behaviour of the tests' own."""
    return Behaviour(number, "list", f"Sentence {number}.", "why", "source", Level.REQUIRED, needs, check)  # type: ignore[arg-type]


async def passes(_t: Trial) -> None:
    """Nothing is wrong."""


async def fails(t: Trial) -> None:
    """Something is, after a call with a password."""
    made = await t.pulled()
    auth = v1.AuthConfig(username="me", password=PASSWORD)
    await t.client.pull(made.name, auth)
    raise Failed(f"expected: <b>; {PASSWORD}")


async def breaks(_t: Trial) -> None:
    """The suite itself is at fault."""
    raise KeyError("suite")


async def tried(folder: Path, *behaviours: Behaviour, known: dict[str, str] | None = None) -> Summary:
    """Run these against a sound service."""
    async with serving(folder, Sound()) as server:
        return await run(Plan(server.path, f"unix://{server.path}", behaviours, known=known or {}))


def test_behaviours_are_complete() -> None:
    """At least seventy, in every group, each with a sentence, a reason and a source, and numbered by its group."""
    found = collected()

    assert len(found) >= 70
    assert {one.group for one in found} == set(GROUPS)
    for one in found:
        assert re.fullmatch(r"[A-Z][1-9][0-9]?", one.number), one
        assert (one.sentence[-1], one.why[-1], bool(one.source)) == (".", ".", True), one.number
    letters = {one.group: {other.number[0] for other in found if other.group == one.group} for one in found}
    assert all(len(used) == 1 for used in letters.values())
    assert len({min(used) for used in letters.values()}) == len(GROUPS)


def test_patterns_choose_by_number_group_and_level() -> None:
    """`--only` and `--skip` take globs over each of the three, in any case."""
    assert [one.number for one in selected(["l1"], ())] == ["L1"]
    assert {one.group for one in selected(["Can*"], ())} == {"cancels"}
    assert {one.level for one in selected((), ["extended"])} == {Level.REQUIRED}
    assert selected(["list"], ["L*"]) == ()


async def test_outcomes_and_exit_codes(tmp_path: Path) -> None:
    """Passed and known: 0. Failed or an unexpected pass: 1. The suite's own fault: 2."""
    good, bad, broken = behaviour("L1", passes), behaviour("L2", fails), behaviour("L3", breaks)

    first = await tried(tmp_path, good, bad, known={"L2": "it is so"})
    assert ([one.outcome for one in first.results], first.exit_code) == ([Outcome.PASSED, Outcome.KNOWN], 0)
    assert first.line == "1 passed, 0 failed, 1 known, 0 not applicable"

    assert (await tried(tmp_path, good, bad)).exit_code == 1
    surprise = await tried(tmp_path, good, known={"L1": "it is not so"})
    assert ([one.outcome for one in surprise.results], surprise.exit_code) == ([Outcome.UNEXPECTED], 1)
    assert (await tried(tmp_path, good, bad, broken)).exit_code == 2


async def test_what_is_missing_is_not_applicable(tmp_path: Path) -> None:
    """A behaviour that needs what is not there is not tried, with the reason."""
    summary = await tried(tmp_path, behaviour("L1", breaks, Need.RESTART))

    (result,) = summary.results
    assert (result.outcome, result.text) == (
        Outcome.NOT_APPLICABLE,
        "there is no command that restarts the service: --restart",
    )
    assert (summary.line, summary.exit_code) == ("0 passed, 0 failed, 0 known, 1 not applicable", 0)


async def test_a_failure_shows_the_exchange_without_the_password(tmp_path: Path) -> None:
    """Every report shows request and answer, what was expected and why; none shows a credential."""
    summary = await tried(tmp_path, behaviour("L1", passes), behaviour("L2", fails))

    text = "\n".join(line for one in summary.results for line in result_lines(one))
    reports = [text, *(form(summary).decode() for form in (junit, page, document))]
    for report in reports:
        assert PASSWORD not in report
        assert all(part in report for part in ("PullImage", "***", "Sentence L2."))
    assert "L1" not in text


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        if tag == "a":
            self.links.add((found.get("href") or "").removeprefix("#"))
        self.loaded += [value for key, value in attrs if key == "src" and value]


async def test_reports_can_be_read_by_programs(tmp_path: Path) -> None:
    """JUnit has a case for each behaviour, JSON everything, and the page permanent links and nothing from elsewhere."""
    summary = await tried(tmp_path, behaviour("L1", passes), behaviour("L2", fails), behaviour("L3", breaks))

    suite = ET.fromstring(junit(summary)).find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["3", "1", "1", "0"]
    assert [one["outcome"] for one in json.loads(document(summary))["results"]] == ["passed", "failed", "suite error"]
    links = _Links()
    links.feed(page(summary).decode())
    assert links.links <= links.ids
    assert {"L1", "L2", "L3", "list"} <= links.ids
    assert links.loaded == []


def test_a_report_says_whose_differences_were_taken_and_how_to_repeat_it() -> None:
    """On the page and for programs; in the terminal whose they are, which may be nobody's run."""
    of, command = "CRI-O 1.36 (from observations, not run here)", "criimage conformance --endpoint unix:///a"
    summary = Summary("CRI-O", "unix:///a", "now", 1.0, (), known_of=of, repeated_by=command)

    assert f"known differences: {of}" in summary_lines(summary)
    assert json.loads(document(summary))["repeated_by"] == command
    assert all(words in page(summary).decode() for words in (of, f"<code>{command}</code>"))


def test_foreign_text_does_not_break_reports() -> None:
    """A service's text with control characters, tags and halves of pairs is shown, and the reports stay whole."""
    nasty = "\x00\x1b[31m</pre><script>\ud800]]>"
    result = Result(behaviour("L1", passes), Outcome.FAILED, nasty)
    summary = Summary(nasty, nasty, "now", 1.0, (result,))

    ET.fromstring(junit(summary))  # noqa: S314 - our own
    json.loads(document(summary))
    assert b"</pre><script>" not in page(summary)


def test_exchanges_are_bounded() -> None:
    """A message of a megabyte is shown in some hundred characters."""
    many = v1.ListImagesResponse(images=[v1.Image(id="x" * 5000, repo_tags=["t"] * 500)] * 300)

    assert len(shown(many)) < 10_000
    assert len(shown(b"\xff" * 2**20)) < 200


async def test_nothing_is_left_and_others_stay(tmp_path: Path) -> None:
    """After a run the store has what it had before, whatever failed in between."""
    backend = Sound()
    async with serving(tmp_path, backend) as server:
        await run(Plan(server.path, "here", selected(["removal", "pull"], ())))
        assert await backend.images() == ()


async def test_what_was_pulled_is_removed_after_each(tmp_path: Path) -> None:
    """A behaviour finds at most the run's first image there; lists do not become longer and longer."""
    backend, seen = Sound(), []

    async def pulls(t: Trial) -> None:
        seen.append(len(await backend.images()))
        await t.pulled()
        await t.pulled()

    async with serving(tmp_path, backend) as server:
        await run(Plan(server.path, "here", tuple(behaviour(f"L{number}", pulls) for number in (1, 2, 3))))

    assert seen == [1, 1, 1]


async def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    """A service that keeps an image, whatever it says: its names are told, and the exit code is 2."""

    class Keeping(Sound):
        async def remove(self, lookup: Lookup) -> None:
            if "l2" in lookup.text or any("/l2/" in str(tag) for one in await self.images() for tag in one.tags):
                raise OperationFailed("not today")
            await super().remove(lookup)

    async with serving(tmp_path, Keeping()) as server:
        summary = await run(Plan(server.path, "here", selected(["L2"], ())))

    assert any("/l2/" in name for name in summary.left)
    assert summary.exit_code == 2
    assert any(line.startswith("could not be removed: ") for line in summary_lines(summary))


async def test_a_run_that_is_cancelled_cleans_up(tmp_path: Path) -> None:
    """Ctrl-C: what was pulled is removed, the summary says that it is incomplete, and the exit code is 2."""
    begun = asyncio.Event()

    async def waits(t: Trial) -> None:
        await t.pulled()
        begun.set()
        await asyncio.Event().wait()

    backend = Sound()
    async with serving(tmp_path, backend) as server:
        running = asyncio.create_task(run(Plan(server.path, "here", (behaviour("L1", waits), behaviour("L2", passes)))))
        await begun.wait()
        assert len(await backend.images()) == 2
        running.cancel()
        summary = await running

        assert (summary.interrupted, summary.exit_code, len(summary.results)) == (True, 2, 0)
        assert await backend.images() == ()


async def test_a_service_that_ends_is_not_asked_a_hundred_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it answers no more, the run ends: the summary says since when and what is left, and the exit code is 2."""
    monkeypatch.setattr(conformance_run, "_SILENCE_SECONDS", 0.3)
    async with serving(tmp_path, Sound()) as server:

        async def ends_it(t: Trial) -> None:
            await t.pulled()
            await server.assembly.stop()
            await t.client.images()

        plan = Plan(server.path, "here", (behaviour("L1", passes), behaviour("L2", ends_it), behaviour("L3", passes)))
        summary = await run(plan)

    assert [one.outcome for one in summary.results] == [Outcome.PASSED, Outcome.FAILED]
    assert (summary.silent_since, summary.interrupted, summary.exit_code) == ("L2", False, 2)
    assert len(summary.left) == 4
    told = "the service has not answered since L2: the rest was not tried"
    assert told in summary_lines(summary)
    assert told.encode() in page(summary)
    assert json.loads(document(summary))["silent_since"] == "L2"


async def test_a_service_that_is_started_again_is_asked_on(tmp_path: Path) -> None:
    """What ends it fails, and whoever watches over it starts it again: the rest is tried, and nothing is left."""
    backend, wanted, ended = Sound(), asyncio.Event(), asyncio.Event()

    async def ends_it(_t: Trial) -> None:
        wanted.set()
        await ended.wait()
        raise Failed("expected: it lives")

    async with AsyncExitStack() as first:
        server = await first.enter_async_context(serving(tmp_path, backend))
        plan = Plan(server.path, "here", (behaviour("L1", ends_it), behaviour("L2", passes)))
        running = asyncio.create_task(run(plan))
        await wanted.wait()
        await first.aclose()
        ended.set()
        async with serving(tmp_path, backend):
            summary = await running
            assert await backend.images() == ()

    assert [one.outcome for one in summary.results] == [Outcome.FAILED, Outcome.PASSED]
    assert (summary.silent_since, summary.left, summary.exit_code) == ("", (), 1)


async def test_no_service_is_told(tmp_path: Path) -> None:
    """Where nobody answers, the reason is told, not a hundred failures."""
    with pytest.raises(CannotRun, match="no CRI service answers at unix:///nowhere"):
        await run(Plan(tmp_path / "none", "unix:///nowhere", selected((), ())))


async def test_a_registry_out_of_reach_is_told_with_help(tmp_path: Path) -> None:
    """A service that cannot pull from the suite's registry: how to let it, for each kind of service."""

    class Elsewhere(Sound):
        def __init__(self) -> None:
            super().__init__()
            self._remote = type(self._remote)("registry.example.com")  # type: ignore[misc]

    async with serving(tmp_path, Elsewhere()) as server:
        with pytest.raises(CannotRun, match=r"(?s)registries\.conf.*containerd.*--registry"):
            await run(Plan(server.path, "here", selected((), ())))


async def test_what_is_no_registry_is_told_in_a_line(tmp_path: Path) -> None:
    """It answers with a page of HTML: the beginning of that, and what is wanted of a registry."""
    async with serving(tmp_path, Sound()) as server:
        with scripted_registry() as takes_nothing, pytest.raises(CannotRun) as refused:
            await run(Plan(server.path, "here", selected((), ()), takes_nothing.address))

    first, second = str(refused.value).splitlines()
    assert first.startswith(f"the suite cannot push to the registry {takes_nothing.address}: POST /v2/")
    assert len(first) < 400
    assert second.startswith("It is spoken to in plain HTTP")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--registry", "127.0.0.1:1"), r"cannot push to the registry 127\.0\.0\.1:1: .*refused"),
        (("--registry", "http://127.0.0.1:5000"), r"--registry: HOST:PORT is wanted"),
        (("--restart", "sh 'restart"), r"--restart: no closing quotation"),
        (("--only", "Z*"), r"--only: Z\* is no number, group or level"),
        (("--only", "list", "--skip", "pul"), r"--skip: pul is no number, group or level"),
        (("--only", "L3", "--skip", "list"), r"no behaviour is selected"),
        (("--json", "/no/such/folder/a.json"), r"/no/such/folder/a\.json: No such file"),
    ],
)
async def test_what_cannot_be_run_is_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2 and one error that says what to do; never a traceback."""
    async with serving(tmp_path, Sound()) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("conformance", "--endpoint", f"unix://{server.path}", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, error = await process.communicate()

    assert process.returncode == 2
    assert re.search(told, error.decode())
    assert b"Traceback" not in error


def test_known_differences_that_come_with_it_are_read() -> None:
    """Each names behaviours that there are, a service with a version, and where it is from."""
    assert set(shipped()) >= {"containerd-1.6", "cri-o-1.36", "cri-dockerd-0.4.3"}
    for name in shipped():
        known = read_known(name)
        assert known.reasons()
        assert re.search(r"\d", known.service)
        assert re.fullmatch(r"20\d\d-\d\d-\d\d|from observations, not run here", known.seen)


def test_other_known_differences_are_judged(tmp_path: Path) -> None:
    """A missing file, no TOML, a wrong key or value and an unknown number are told with the file, in plain words."""
    for text, told in (
        ("[[[", "line 1, column 3: no key and no"),
        ('service="a"\nseeen="b"', r"known\.toml: seeen: no such key; did you mean seen\?"),
        ('service="a"\nseen=3', r'seen: must be text in "quotes", not a number'),
        ('service="a"\nseen="b"\ndifference=3', r'difference: must be a list, such as \["a", "b"\], not a number'),
        ('service="a"\nseen="b"\n[[difference]]\nnumber="Z9"\nyhw="c"', "difference: entry 1: yhw: no such key"),
        ('service="a"\nseen="b"\n[[difference]]\nnumber="Z9"\nwhy="c"', "Z9"),
    ):
        file = tmp_path / "known.toml"
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=told):
            read_known(str(file))
    with pytest.raises(ConfigurationError, match=r"containerd-1\.6"):
        read_known("no-such-file")


async def test_the_command(tmp_path: Path) -> None:
    """It prints little where all is well, writes the files, and its last line is of one form."""
    async with serving(tmp_path, Sound()) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("conformance", "--endpoint", f"unix://{server.path}", "--only", "list"),
            *(
                "--junit",
                str(tmp_path / "a.xml"),
                "--html",
                str(tmp_path / "a.html"),
                "--json",
                str(tmp_path / "a.json"),
            ),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()

    lines = out.decode().splitlines()
    assert (process.returncode, lines[-1]) == (0, "13 passed, 0 failed, 0 known, 0 not applicable")
    assert len(lines) == 2
    for name in ("a.xml", "a.html", "a.json"):
        assert (tmp_path / name).stat().st_size > 100


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_in_the_command(tmp_path: Path, told: signal.Signals) -> None:
    """A real SIGINT ends it with 2 and an empty store; so does what a CI system sends."""
    backend = Sound()
    async with serving(tmp_path, backend) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *("conformance", "--endpoint", f"unix://{server.path}", "-v"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(told)
        out, _ = await process.communicate()

        assert process.returncode == 2
        assert b"interrupted" in out
        assert await backend.images() == ()
        async with Channel(server.path) as channel:
            assert await Client(channel).images() == []


async def test_ctrl_c_twice_ends_it_at_once(tmp_path: Path) -> None:
    """Where the clean-up takes too long: the second one says what may be left, and is no traceback."""
    removing = asyncio.Event()

    class Slow(Sound):
        async def remove(self, lookup: Lookup) -> None:
            removing.set()
            await asyncio.Event().wait()

    async with serving(tmp_path, Slow()) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("conformance", "--endpoint", f"unix://{server.path}", "--only", "L*", "-v"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        await removing.wait()
        process.send_signal(signal.SIGINT)
        _, error = await process.communicate()

    first, second = error.decode().splitlines()
    assert process.returncode == 2
    assert first == "interrupted: what was pulled is removed; once more ends it at once"
    assert second.endswith("under names with criimage-conformance in them")


async def test_a_report_of_before_stays_until_there_is_a_new_one(tmp_path: Path) -> None:
    """Where the service does not answer, no file is emptied and none is made."""
    old, new = tmp_path / "old.json", tmp_path / "new.html"
    old.write_text("as it was")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("conformance", "--endpoint", f"unix://{tmp_path}/none", "--json", str(old), "--html", str(new)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate()

    assert (process.returncode, error.startswith(b"Error: no CRI service answers")) == (2, True)
    assert old.read_text() == "as it was"
    assert not new.exists()


def test_the_page_has_every_behaviour() -> None:
    """docs/conformance.md lists each with its number, sentence, level and reason, and no other."""
    rows = [line for line in page_text("conformance").splitlines() if re.match(r"\| [A-Z]\d", line)]

    assert rows == [f"| {one.number} | {one.sentence} | {one.level.value} | {one.why} |" for one in collected()]
