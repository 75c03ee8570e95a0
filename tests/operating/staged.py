"""A backend in memory for servers in a process of their own: a plugin with some images that behave in special ways.

It is installed as a third party's would be, see `staged_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from criimage.backend import Problem, User
from criimage.credentials import Credentials
from criimage.errors import ConfigurationError
from criimage.plugins import CONTRACT, Plugin
from criimage.testing.memory import MemoryBackend, Registry, RemoteImage
from criimage.work import CANCEL_SECONDS
from parts.criimage_process import criimage
from plugins.distributions import install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from criimage.reference import Lookup
    from parts.criimage_process import Criimage

_log = structlog.get_logger(__name__)

CANARY = "c4n4ry"
"""A piece of every secret; it must be seen nowhere."""

OWNER = Credentials(f"{CANARY}-user", f"{CANARY}-password")

DEMO = RemoteImage("demo", size=123_456_789, user=User(uid=0), annotations={"org.example.note": "a note"})
NAMED = RemoteImage("named", user=User(name="www-data"))
PRIVATE = RemoteImage("private", owner=OWNER)
STALLED = RemoteImage("stalled")
FAULTY = RemoteImage("faulty")
USED = RemoteImage("used")
CLINGING = RemoteImage("clinging")
STUCK = RemoteImage("stuck")
FROZEN = RemoteImage("frozen")


class StagedSettings(BaseModel):
    """The table `[backends.staged]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr = Field(default=SecretStr(""), description="a secret\nthat takes two lines to explain")
    problem: str = Field(default="", description="what `check` complains of")
    place: str = Field(default="", description="where nothing can be")
    says: str = Field(default="", description="an event to log at the start")


class StagedBackend(MemoryBackend):
    """Stalls for one image, has a fault for another, cannot let go of a third, and hangs in a file for two more."""

    async def download(self, remote: RemoteImage) -> None:
        """Do what the image stands for."""
        if remote == STALLED:
            await asyncio.Event().wait()
        if remote == STUCK:
            await anyio.to_thread.run_sync(_forever)
        if remote == FROZEN:
            _forever()
        if remote == FAULTY:
            raise RuntimeError("a fault of the backend")

    async def remove(self, lookup: Lookup) -> None:
        """Hang for one image, and take all the time there is to stop."""
        if lookup.id == CLINGING.id:
            _log.info("removal has begun")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(CANCEL_SECONDS)
        await super().remove(lookup)


def _forever() -> None:
    """Read from a FIFO that nobody writes to, as a file that hangs."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/fifo")
        # Said where it is true: before this a cancelled call would never begin to hang.
        _log.info("this is stuck")
        Path(f"{folder}/fifo").read_bytes()


@asynccontextmanager
async def _open(settings: StagedSettings) -> AsyncIterator[StagedBackend]:
    if settings.place:
        raise ConfigurationError("no place for anything", ("backends", "staged", "place"))
    if settings.says:
        _log.error(settings.says)
    registry = Registry()
    for name, image in {
        "example.com/demo:latest": DEMO,
        "example.com/demo:1": DEMO,
        "example.com/named": NAMED,
        "example.com/private": PRIVATE,
        "example.com/stalled": STALLED,
        "example.com/faulty": FAULTY,
        "example.com/used": USED,
        "example.com/clinging": CLINGING,
        "example.com/stuck": STUCK,
        "example.com/frozen": FROZEN,
        "busybox": RemoteImage("busybox"),
    }.items():
        registry.put(name, image)
    problems = (Problem(settings.problem, "do something"),) if settings.problem else ()
    backend = StagedBackend(registry, problems)
    backend.in_use.add(USED.id)
    yield backend


plugin = Plugin("staged", CONTRACT, StagedSettings, _open)


@contextlib.contextmanager
def installed() -> Iterator[dict[str, str]]:
    """Install the plugin, and yield the environment in which it is."""
    tests = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="criimage-staged-") as site:
        install(Path(site), "criimage_staged", {"staged": "operating.staged:plugin"})
        yield {"PYTHONPATH": f"{site}:{tests}"}


@contextlib.contextmanager
def staged_server(
    config: str = "", *, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Criimage]:
    """Run `criimage serve` with this backend until it serves, not only listens.

    Args:
        config: more of its settings file.
        arguments: more of them.
        environment: more of it.
    """
    with (
        installed() as known,
        criimage(
            f'backend = "staged"\n{config}', arguments=arguments, environment={**known, **(environment or {})}
        ) as server,
    ):
        server.process.wait_until(lambda: "serving" in server.log_text(), seconds=45)
        yield server
