"""A run: what it leaves behind, its end by a cancel or with the service, and what cannot be run at all."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from conformance.planted.fault import Sound
from conformance.tried import behaviour, passes
from criimage.backend import Image
from criimage.conformance import run as conformance_run
from criimage.conformance.behaviour import Need, selected
from criimage.conformance.outcome import Failed, Outcome
from criimage.conformance.report.document import document
from criimage.conformance.report.page import page
from criimage.conformance.report.text import summary_lines
from criimage.conformance.run import CannotRun, Plan, run
from criimage.errors import OperationFailed
from criimage.reference import ImageID, Reference
from criimage.testing.scripted_registry import scripted_registry
from parts.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.conformance.trial import Trial
    from criimage.reference import Lookup, Pattern


async def test_nothing_is_left_and_others_stay(tmp_path: Path) -> None:
    """After a run the store has what it had before, whatever failed in between."""
    backend = Sound()
    async with serving(tmp_path, backend) as server:
        await run(Plan(server.path, "here", selected(["removal", "pull"], ())))
        assert await backend.images() == ()


async def test_hostile_input_is_for_criimage_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end another service: only `--hostile` sends it there."""
    sent: list[str] = []

    async def hostile(t: Trial) -> None:
        sent.append(t.number)

    async def foreign(*_: object) -> tuple[str, bool]:
        return "foreign 1.0", False

    tried = (behaviour("L1", hostile, Need.HOSTILE),)
    async with serving(tmp_path, Sound()) as server:
        await run(Plan(server.path, "here", tried))
        assert sent == ["L1"]
        monkeypatch.setattr("criimage.conformance.run._server", foreign)
        (left_out,) = (await run(Plan(server.path, "here", tried))).results
        assert (left_out.outcome, sent) == (Outcome.NOT_APPLICABLE, ["L1"])
        assert left_out.text == "it may end a service that is not criimage: --hostile"
        await run(Plan(server.path, "here", tried, hostile=True))
        assert sent == ["L1", "L1"]


async def test_others_come_and_go_meanwhile(tmp_path: Path) -> None:
    """On a node in use every list differs from the last by images of others: nothing fails for it, and they stay."""

    class InUse(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.others = 0

        async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
            self.others += 1
            new = ImageID(f"{self.others:064x}")
            name = Reference.parse(f"elsewhere.example/other:{self.others}")
            other = Image(new, (name,), (name.with_digest(f"sha256:{new.hex}"),), 1)
            return (*await super().images(), other) if pattern is None else await super().images(pattern)

    backend = InUse()
    async with serving(tmp_path, backend) as server:
        summary = await run(Plan(server.path, "here", selected(["list", "removal", "usage"], ())))

    assert [(one.behaviour.number, one.text) for one in summary.results if one.outcome is not Outcome.PASSED] == []
    assert backend.others > 10
    assert summary.left == ()


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
