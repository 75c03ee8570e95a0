"""Behaviours of the tests' own, tried against a sound service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.planted.fault import Sound
from criimage.conformance.behaviour import Behaviour, Level, Need
from criimage.conformance.outcome import Failed, Summary
from criimage.conformance.run import Plan, run
from criimage.conformance.supply import PASSWORD
from criimage.cri.runtime import v1
from parts.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.conformance.trial import Trial


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
