"""Pulls on real Docker engines (issue 5, it must show).

Where nothing depends on the engine one is enough: 26.1 with its graph driver. What engines cannot do stands with the
test: the graph drivers' engines keep a connection on which a registry hangs until its next byte (P20), though they give
the pull up at once; and only they make the layers of all pulls wait in one queue (P21).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from criimage import errors
from criimage.duration import duration_text
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from criimage.testing.oci import image, noise_layer
from criimage.testing.scripted_registry import Auth, End, Hang, Stage, Trickle, scripted_registry
from parts.docker_backend import docker_backend
from parts.engine import KINDS, Engine, Kind, engine
from pulls import scenarios
from pulls.scenarios import HANGS
from pulls.standing import PATIENCE, Place, gone, patiently, standing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pulls.conftest import Measured
    from pulls.standing import Opener

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

GRAPH = pytest.mark.parametrize("running", [Kind.DEBIAN13], indirect=True, ids=lambda kind: kind.value)
GRAPHS = pytest.mark.parametrize(
    "running", [kind for kind in KINDS if not kind.containerd_store], indirect=True, ids=lambda kind: kind.value
)
CONTAINERD = pytest.mark.parametrize(
    "running", [kind for kind in KINDS if kind.containerd_store], indirect=True, ids=lambda kind: kind.value
)
ALL = pytest.mark.parametrize("running", KINDS, indirect=True, ids=lambda kind: kind.value)


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Engine]:
    # Each test has one of its own: the containerd store keeps content for a while after the last image has gone.
    with engine(request.param) as started:
        yield started


@pytest.fixture
def docker(running: Engine) -> Opener:
    """Opens the backend on the engine."""

    @asynccontextmanager
    async def opener() -> AsyncIterator[Place]:
        async with docker_backend(running.host) as backend:

            def leftovers() -> list[str]:
                # The graph drivers download into files there. The containerd store keeps what has come of a blob as
                # long as its own garbage collection lets it, for a retry to go on from.
                files = [str(path) for path in (running.folder / "data" / "tmp").glob("GetImageBlob*")]
                return files + [one["Id"] for one in running.images() if not one["RepoTags"]]

            yield Place(backend, leftovers)

    return opener


@ALL
async def test_equal_pulls_cost_one_download(docker: Opener) -> None:
    """P13, P21: twenty callers, some of them late: each layer is fetched once, all get the same image."""
    made = image(noise_layer(200_000), noise_layer(100_000, seed=1))
    with scripted_registry() as hub:
        name = hub.put(made, "team/app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=1000))
        async with standing(docker) as stand:
            callers = [stand.pull(name) for _ in range(10)]
            await hub.until(lambda: hang.reached)
            callers += [stand.pull(name) for _ in range(10)]
            await asyncio.sleep(0)
            hub.release()
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*callers)
            assert len({result.image.id for result in results}) == 1
            fetched = [request.reference for request in hub.asked(Stage.LAYER)]
            assert sorted(fetched) == sorted(one.digest for one in made.layers)
            assert stand.pulls.ended_count == 1


@ALL
async def test_the_first_caller_leaves(docker: Opener) -> None:
    """P13: the others get what it began."""
    await scenarios.the_first_caller_leaves(docker)


@CONTAINERD
async def test_all_callers_leave(docker: Opener, measured: Measured) -> None:
    """P20: containerd closes its connection, though the registry hangs."""
    took = await scenarios.all_callers_leave(docker)
    measured(f"{took:.3f} s until the registry saw the connection end")


@GRAPHS
async def test_all_callers_leave_a_registry_that_sends(docker: Opener, running: Engine) -> None:
    """P20: a graph driver's engine notices with the next byte: the rest is not sent, nothing is left."""
    with scripted_registry() as hub:
        name = hub.put(image(noise_layer(2_000_000)), "team/app", "1")
        trickle = hub.script(Stage.LAYER, Trickle(10_000, 0.1))
        async with standing(docker) as stand:
            callers = [stand.pull(name) for _ in range(3)]
            await hub.until(lambda: trickle.reached)
            await gone(callers)
            await hub.until(lambda: not hub.open())
            (fetched,) = hub.asked(Stage.LAYER)
            assert fetched.end is End.CUT
            await stand.nothing_left(name)
            hub.release()
            await stand.pulled(name)


@CONTAINERD
async def test_the_operator_ends_it(docker: Opener) -> None:
    """`criimage pulls cancel` reaches the registry."""
    await scenarios.the_operator_ends_it(docker)


@CONTAINERD
@pytest.mark.parametrize(
    ("stage", "hang"),
    [one for one in HANGS[1:] if one != (Stage.MANIFEST, Hang())],
    ids=lambda value: getattr(value, "value", str(value)),
)
async def test_a_hang_is_cut_off(docker: Opener, stage: Stage, hang: Hang) -> None:
    """P17, P19: the clock begins with the request, and the engine's repetitions do not move it.

    containerd begins with the manifest: the first request of the scenarios, `/v2/`, is not made.
    """
    await scenarios.a_hang_is_cut_off(docker, stage, hang)


@CONTAINERD
async def test_a_hang_at_the_manifest_is_cut_off(docker: Opener) -> None:
    """P19: containerd asks by HEAD first."""

    async def scene(still: float) -> None:
        policy = PullPolicy(RegistryPolicy(progress_timeout=still))
        with scripted_registry() as hub:
            name = hub.put(image(noise_layer(9000)), "team/app", "1")
            hung = hub.script(Stage.MANIFEST, Hang())
            async with standing(docker, policy) as stand:
                with pytest.raises(errors.PullTimeout, match="while waiting for the registry to answer"):
                    await stand.pulled(name)
                assert hung.reached
                await hub.until(lambda: not hub.open())
                assert hub.asked(Stage.MANIFEST, method="HEAD")[-1].end is End.CUT
                hub.release()
                stand.pulls.set_policy(PullPolicy())
                await stand.pulled(name)

    await patiently(scene)


@GRAPH
@pytest.mark.parametrize(("stage", "hang"), HANGS, ids=lambda value: getattr(value, "value", str(value)))
async def test_a_hang_is_cut_off_by_a_graph_drivers_engine(docker: Opener, stage: Stage, hang: Hang) -> None:
    """P17, P19, P20: cut at the deadline; its connection to the registry ends with the next byte, and a retry works."""

    async def scene(still: float) -> None:
        policy = PullPolicy(RegistryPolicy(progress_timeout=still))
        with scripted_registry(auth=Auth.BEARER) as hub:
            name = hub.put(image(noise_layer(2_000_000)), "team/app", "1")
            hung = hub.script(stage, hang)
            async with standing(docker, policy) as stand:
                with pytest.raises(errors.PullTimeout, match=f"no progress for {duration_text(still)} while"):
                    await stand.pulled(name)
                assert hung.reached
                hub.release()
                await hub.until(lambda: not hub.open())
                stand.pulls.set_policy(PullPolicy())
                # Where the config came too late the image is there, without a name; the retry gives it one.
                await stand.pulled(name)
                await stand.nothing_left()

    await patiently(scene)


@GRAPH
async def test_a_trickle_is_not_cut_off(docker: Opener, measured: Measured) -> None:
    """P17: bytes that come are progress, however few."""
    took, deadline = await scenarios.a_trickle_is_not_cut_off(docker)
    measured(f"{took:.1f} s, with a deadline of {deadline} s")


@CONTAINERD
async def test_a_trickle_is_not_cut_off_with_containerd(docker: Opener) -> None:
    """P17, P19: among the repetitions there are messages with news, one for every MiB; slower bytes are not seen."""

    async def scene(still: float) -> None:
        policy = PullPolicy(RegistryPolicy(progress_timeout=2 * still))
        with scripted_registry() as hub:
            name = hub.put(image(noise_layer(16 * 2**20)), "team/app", "1")
            trickle = hub.script(Stage.LAYER, Trickle(2**19, still / 6))
            async with standing(docker, policy) as stand:
                await stand.pulled(name)
                assert trickle.reached

    await patiently(scene)


@ALL
async def test_a_long_unpack_is_not_cut_off(docker: Opener, measured: Measured) -> None:
    """P18: no byte comes, and the containerd store says nothing at all."""
    took, deadline = await scenarios.a_long_unpack_is_not_cut_off(docker, 1500 * 2**20)
    measured(f"{took:.1f} s after the last byte, with a deadline of {deadline} s")


@CONTAINERD
@pytest.mark.parametrize("parallel", [0, 2])
async def test_ten_hung_registries_and_the_eleventh(docker: Opener, parallel: int, measured: Measured) -> None:
    """A3: without and with a small limit in all."""
    took = await scenarios.ten_hung_registries_and_the_eleventh(docker, parallel)
    measured(f"the eleventh took {took:.2f} s")


@GRAPHS
async def test_figures_of_progress(docker: Opener) -> None:
    """P10, P17: bytes and layers, monotonic, to the end. The containerd store tells too little for all of it."""
    await scenarios.figures_of_progress(docker)


@ALL
async def test_faults_are_told_apart(docker: Opener) -> None:
    """P12: one registry's trouble is its own."""
    await scenarios.faults_are_told_apart(docker)


@GRAPHS
async def test_who_waits_for_a_hung_pull_is_not_cut_off(docker: Opener) -> None:
    """P21: three layers of one image take all that the engine downloads at once; another pull waits behind them.

    One of them comes slowly, for several deadlines, and then a fourth takes its turn and hangs like the others. The
    pull that waits has been silent for longer by then, and yet the hung one is cut off, and the other has its turn.
    """

    async def scene(still: float) -> None:
        policy = PullPolicy(RegistryPolicy(progress_timeout=still))
        made = image(*(noise_layer(1_500_000, seed=number) for number in range(4)))
        with scripted_registry() as bad, scripted_registry() as good:
            name, other = bad.put(made, "team/bad", "1"), good.put(image(noise_layer(9000, seed=9)), "team/good", "1")
            hang = bad.script(Stage.LAYER, Hang(after=1000))
            bad.script(Stage.LAYER, Trickle(100_000, still / 5), reference=made.layers[0].digest)
            async with standing(docker, policy) as stand:
                hung = stand.pull(name)
                await bad.until(lambda: len(bad.open(Stage.LAYER)) == 3)
                waiting = stand.pull(other)
                await good.until(lambda: good.asked(Stage.CONFIG))
                await bad.until(lambda: hang.reached == 3)
                assert not hung.done()
                assert not waiting.done()
                assert not good.asked(Stage.LAYER)
                with pytest.raises(errors.PullTimeout, match="while downloading layers"):
                    await hung
                async with asyncio.timeout(PATIENCE):
                    await waiting
                assert [request.end for request in good.asked(Stage.LAYER)] == [End.COMPLETE]

    await patiently(scene)


@GRAPHS
async def test_a_row_of_hung_pulls(docker: Opener) -> None:
    """P21: more pulls hang within a layer than the engine downloads at once; all are cut, the last is served."""

    async def scene(still: float) -> None:
        policy = PullPolicy(RegistryPolicy(progress_timeout=still))
        with scripted_registry() as bad, scripted_registry() as good:
            names = [bad.put(image(noise_layer(9000, seed=number)), f"team/bad{number}", "1") for number in range(5)]
            other = good.put(image(noise_layer(9000, seed=9)), "team/good", "1")
            bad.script(Stage.LAYER, Hang(after=1000))
            async with standing(docker, policy) as stand:
                hung = [stand.pull(name) for name in names]
                await bad.until(lambda: len(bad.open(Stage.LAYER)) == 3 and len(bad.asked(Stage.CONFIG)) == 5)
                await stand.pulled(other)
                async with asyncio.timeout(PATIENCE):
                    ends = await asyncio.gather(*hung, return_exceptions=True)
                assert [type(end) for end in ends] == [errors.PullTimeout] * 5

    await patiently(scene)


@GRAPHS
async def test_unanswered_requests_keep_the_engines_places(docker: Opener) -> None:
    """P20, P21: what cannot be helped from here.

    A graph driver's engine gives up a download whose first byte has come, and not a request that got no answer. Three
    of those keep it from downloading anything until the registry answers or the connection ends, so whoever waits
    behind them is cut off as well.
    """

    async def scene(still: float) -> None:
        policy = PullPolicy(RegistryPolicy(progress_timeout=still))
        made = image(*(noise_layer(9000, seed=number) for number in range(3)))
        with scripted_registry() as bad, scripted_registry() as good:
            name, other = bad.put(made, "team/bad", "1"), good.put(image(noise_layer(9000, seed=9)), "team/good", "1")
            bad.script(Stage.LAYER, Hang())
            async with standing(docker, policy) as stand:
                with pytest.raises(errors.PullTimeout):
                    await stand.pulled(name)
                assert len(bad.open(Stage.LAYER)) == 3
                with pytest.raises(errors.PullTimeout):
                    await stand.pulled(other)
                assert not good.asked(Stage.LAYER)
                bad.release()
                stand.pulls.set_policy(PullPolicy())
                await stand.pulled(other)

    await patiently(scene)
