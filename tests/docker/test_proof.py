"""Success of a pull means that the caller may have the image, on every engine (docker Corrections; the contract)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from criimage.backend import PullContext
from criimage.credentials import Credentials
from criimage.duration import duration_text
from criimage.errors import (
    AccessDenied,
    CriimageError,
    PullError,
    PullTimeout,
    RateLimited,
    RegistryUnavailable,
    RemoteImageMissing,
)
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from criimage.pulls.sharing import Pulls
from criimage.reference import Name
from criimage.testing.oci import image, layer
from criimage.testing.scripted_registry import Answer, Auth, Close, Hang, Stage
from criimage.work import Work
from parts.docker_backend import docker_backend, following, pull
from parts.engine import Kind
from pulls.standing import patiently

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.testing.scripted_registry import ScriptedRegistry
    from docker.conftest import Scripted
    from parts.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ALICE = Credentials("alice", "right")
DENIED = b'{"errors":[{"code":"DENIED","message":"not yours"}]}'
JSON = {"Content-Type": "application/json"}
SLOW_DOWN = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'


def asked(hub: ScriptedRegistry) -> int:
    """How many manifests were asked for, by whatever method."""
    return sum(request.stage is Stage.MANIFEST for request in hub.requests)


@pytest.fixture(params=[Auth.BASIC, Auth.BEARER], ids=["basic", "bearer"])
def private(scripted: Scripted, request: pytest.FixtureRequest) -> Iterator[ScriptedRegistry]:
    with scripted(auth=request.param, accounts={ALICE.username: ALICE.password}) as hub:
        yield hub


@pytest.mark.newest
async def test_a_digest_that_is_here_needs_the_right_credentials(docker: Engine, private: ScriptedRegistry) -> None:
    """Issue 10.1: a pull by digest of an image that is here fails for whoever may not have it, and changes nothing."""
    made = image(layer({"for": b"proof"}))
    async with docker_backend(docker.host) as backend:
        name = private.put(made, "proof/private", "1").removesuffix(":1") + f"@{made.digest}"
        pulled = await pull(backend, name, ALICE)
        await following(backend)
        for other in (None, Credentials("alice", "wrong"), Credentials("mallory", "right")):
            with pytest.raises(AccessDenied):
                await pull(backend, name, other)
            assert await backend.images() == (pulled,)
        again = await pull(backend, name, ALICE)

    assert again == pulled


async def test_a_repository_that_was_not_asked_for(docker: Engine, private: ScriptedRegistry) -> None:
    """Issue 10.1: that the same digest came from another repository, or has lost its name, proves nothing either."""
    made = image(layer({"for": b"other proof"}))
    async with docker_backend(docker.host) as backend:
        first = private.put(made, "proof/first", "1")
        second = private.put(made, "proof/second", "1").removesuffix(":1") + f"@{made.digest}"
        await pull(backend, first, ALICE)
        docker.tag(first, "kept", "1")
        docker.delete(first)
        for name in (second, f"{first.removesuffix(':1')}@{made.digest}"):
            for other in (None, Credentials("alice", "wrong")):
                with pytest.raises(AccessDenied):
                    await pull(backend, name, other)


async def test_what_it_costs(docker: Engine, scripted: Scripted) -> None:
    """Issue 10.1: one question more by digest on a graph driver; none for a tag, and none on the containerd store."""
    made = image(layer({"for": b"cost"}))
    counts = {}
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            tag = hub.put(made, "proof/cost", "1")
            digest = f"{tag.removesuffix(':1')}@{made.digest}"
            for name in (tag, digest):
                await pull(backend, name)
            await following(backend)
            for name in (tag, digest):
                before = asked(hub)
                await pull(backend, name)
                ours = asked(hub) - before
                before = asked(hub)
                await asyncio.to_thread(docker.pull, hub.address + "/proof/cost", "1" if name == tag else made.digest)
                counts[name] = ours - (asked(hub) - before)

    assert counts == {tag: 0, digest: 0 if docker.kind.containerd_store else 1}


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (Answer(401, DENIED, JSON), AccessDenied),
        (Answer(403, DENIED, JSON), AccessDenied),
        (Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}', JSON), RemoteImageMissing),
        (Answer(429, SLOW_DOWN, JSON), RateLimited),
        (Answer(502, b"bad"), RegistryUnavailable),
        (Answer(503, b"bad"), RegistryUnavailable),
        (Answer(500, b"bad"), PullError),
        (Close(), RegistryUnavailable),
    ],
    ids=["401", "403", "404", "429", "502", "503", "500", "closed"],
)
async def test_no_success_without_an_answer(
    docker: Engine, scripted: Scripted, act: Answer | Close, kind: type[CriimageError]
) -> None:
    """Issue 10.1: whatever else than 200 the registry says of a digest that is here, the pull fails as that."""
    if docker.kind is Kind.UNSTABLE_CONTAINERD and isinstance(act, Close):
        # All that its client says of a connection that breaks at a digest's manifest is "not found".
        kind = RemoteImageMissing
    made = image(layer({"for": b"answers"}))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(made, "proof/answers", "1").removesuffix(":1") + f"@{made.digest}"
            await pull(backend, name)
            hub.script(Stage.MANIFEST, act)
            with pytest.raises(kind) as failed:
                await pull(backend, name)
            assert type(failed.value) is kind, failed.value.text
        with pytest.raises(RegistryUnavailable):
            await pull(backend, name)


async def test_the_question_can_be_cancelled(docker: Engine, scripted: Scripted) -> None:
    """Issue 10.1: a registry that hangs on the question holds the pull up, and a cancel ends it."""
    made = image(layer({"for": b"hangs"}))
    async with docker_backend(docker.host) as backend:
        with scripted() as hub:
            name = hub.put(made, "proof/hangs", "1").removesuffix(":1") + f"@{made.digest}"
            await pull(backend, name)
            hang = hub.script(Stage.MANIFEST, Hang())
            pulling = asyncio.create_task(pull(backend, name))
            await hub.until(lambda: hang.reached)
            pulling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pulling
            if docker.kind.containerd_store:
                # The graph drivers' client keeps a hung registry's connection until its next byte (P20).
                await hub.until(lambda: not hub.open(Stage.MANIFEST))
            hub.release()
            await pull(backend, name)


async def test_the_question_has_the_pulls_deadline(docker: Engine, scripted: Scripted) -> None:
    """Issue 10.1: a registry that never answers the question ends the pull when it would end any other, as no proof."""
    made = image(layer({"for": b"deadlines"}))

    async def scene(still: float) -> None:
        async with docker_backend(docker.host) as backend, Work() as work:
            with scripted() as hub:
                name = hub.put(made, "proof/deadlines", "1").removesuffix(":1") + f"@{made.digest}"
                await pull(backend, name)
                pulls = Pulls(backend, work, PullPolicy(RegistryPolicy(progress_timeout=still)))
                hang = hub.script(Stage.MANIFEST, Hang())
                with pytest.raises(PullTimeout, match=f"no progress for {duration_text(still)}"):
                    await pulls.pull(Name.parse(name), None, PullContext())
                assert hang.reached
                hub.release()
                await pull(backend, name)

    await patiently(scene)
