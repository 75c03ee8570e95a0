"""When the image that a runtime's pods begin with is pinned (relay-and-cri 1): as soon as it is told, and for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from grpclib.const import Status

from criimage import runtime_facts
from criimage.channel import CallError
from criimage.runtime_facts import RuntimeFacts
from criimage.server.services.sandbox_pin import SandboxPin
from criimage.settings import Settings
from server.test_replies import _image

if TYPE_CHECKING:
    from criimage.channel import Channel
    from criimage.pins import Pins

PAUSE = "a.b/c1:1"


class Runtime:
    """Stands in for the question to a runtime.

    Attributes:
        facts: what it answers; None: nothing.
        meanwhile: is called while the answer is on its way.
    """

    def __init__(self) -> None:
        self.facts: RuntimeFacts | None = RuntimeFacts(sandbox_image=PAUSE)

    async def __call__(self, channel: Channel) -> RuntimeFacts:
        """Answer."""
        if self.facts is None:
            raise CallError(Status.UNAVAILABLE, "not now")
        return self.facts


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    made = Runtime()
    monkeypatch.setattr(runtime_facts, "ask_runtime", made)
    return made


def pinned(pins: list[Pins]) -> list[bool]:
    return [one.match(_image(1)) for one in pins]


async def test_what_the_runtime_tells_is_pinned_once(runtime: Runtime) -> None:
    """Told again it changes nothing; another one takes its place; one that is silent leaves what is known."""
    taken: list[Pins] = []
    pin = SandboxPin(Settings(), taken.append)
    channel = cast("Channel", None)
    for _ in range(3):
        await pin.ask(channel)
    assert pinned(taken) == [True]

    for facts in (None, RuntimeFacts()):
        runtime.facts = facts
        await pin.ask(channel)
    assert len(taken) == 1
    runtime.facts = RuntimeFacts(sandbox_image="a.b/c2:1")
    await pin.ask(channel)
    assert pinned(taken) == [True, False]
    assert taken[1].match(_image(2))


async def test_other_settings_do_not_lose_it(runtime: Runtime) -> None:
    """Pins that were made before the runtime told are made again; an image that the operator names goes first."""
    taken: list[Pins] = []
    settings = Settings(pinned_images=("a.b/c3:1",))
    pin = SandboxPin(Settings(), taken.append)
    early = pin.pins(settings)
    await pin.ask(cast("Channel", None))
    pin.use(settings, early)
    assert pinned(taken) == [True, False]

    await pin.ask(cast("Channel", None))
    assert pinned(taken) == [True, False, True]
    assert taken[2].match(_image(3))
    named = Settings.model_validate({"runtime": {"sandbox_image": "a.b/c4:1"}})
    assert [pin.pins(named).match(_image(number)) for number in (1, 4)] == [False, True]


async def test_settings_that_come_while_pins_are_made_count(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins of settings that are old by the time they are made are thrown away, and made anew."""
    taken: list[Pins] = []
    settings = Settings(pinned_images=("a.b/c3:1",))
    pin = SandboxPin(Settings(), taken.append)
    make = pin.pins

    def overtaken(old: Settings) -> Pins:
        monkeypatch.setattr(pin, "pins", make)
        pin.use(settings, make(settings))
        return make(old)

    monkeypatch.setattr(pin, "pins", overtaken)
    for _ in range(2):
        await pin.ask(cast("Channel", None))
    assert [one.match(_image(3)) for one in taken] == [True, True]
    assert pinned(taken) == [True, True]
