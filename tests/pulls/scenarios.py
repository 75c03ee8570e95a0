"""What pulls have to stand on a real backend, against a registry that does as it is told (issue 5, it must show).

Each scenario takes an `Opener`: a backend's tests say once how it is opened on a store of its own, and then have a test
of two lines for each scenario.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tarfile
import time
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from criimage import errors
from criimage.backend import Phase
from criimage.duration import duration_text
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from criimage.testing.oci import Layer, image, layer, noise_layer
from criimage.testing.scripted_registry import (
    Answer,
    Auth,
    End,
    Hang,
    Stage,
    Trickle,
    scripted_registry,
)
from pulls.standing import PATIENCE, STILL, Opener, gone, patiently, standing

if TYPE_CHECKING:
    from criimage.backend import PullProgress


async def equal_pulls_cost_one_download(opener: Opener) -> None:
    """Twenty callers, one of them first and some late: each layer is fetched once, all get the same image."""
    made = image(noise_layer(200_000), noise_layer(100_000, seed=1))
    with scripted_registry() as hub:
        name = hub.put(made, "team/app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=1000))
        async with standing(opener) as stand:
            callers = [stand.pull(name) for _ in range(10)]
            await hub.until(lambda: hang.reached)
            callers += [stand.pull(name) for _ in range(10)]
            hub.release()
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*callers)
            assert {str(result.image.id) for result in results} == {made.id.removeprefix("sha256:")}
            fetched = [request.reference for request in hub.asked(Stage.LAYER)]
            assert sorted(fetched) == sorted(one.digest for one in made.layers)
            assert stand.pulls.ended_count == 1


async def the_first_caller_leaves(opener: Opener) -> None:
    """The one that began it goes in the middle of a layer: the download goes on for the others, unbroken."""
    made = image(noise_layer(300_000))
    with scripted_registry() as hub:
        name = hub.put(made, "team/app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=100_000))
        async with standing(opener) as stand:
            first, *others = [stand.pull(name) for _ in range(3)]
            await hub.until(lambda: hang.reached)
            await gone([first])
            hub.release()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*others)
            assert first.cancelled()
            (fetched,) = hub.asked(Stage.LAYER)
            assert (fetched.end, fetched.sent) == (End.COMPLETE, len(made.layers[0].data))


async def all_callers_leave(opener: Opener) -> float:
    """The download stops, seen at the registry; nothing is left; the next pull works. Returns how long it took."""
    made = image(noise_layer(2_000_000))
    with scripted_registry() as hub:
        name = hub.put(made, "team/app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=500_000))
        async with standing(opener) as stand:
            callers = [stand.pull(name) for _ in range(3)]
            await hub.until(lambda: hang.reached)
            assert hub.open(Stage.LAYER)
            began = time.monotonic()
            await gone(callers)
            await hub.until(lambda: not hub.open())
            took = time.monotonic() - began
            (fetched,) = hub.asked(Stage.LAYER)
            assert (fetched.end, fetched.sent) == (End.CUT, 500_000)
            await stand.nothing_left(name)
            hub.release()
            await stand.pulled(name)
        return took


async def the_operator_ends_it(opener: Opener) -> None:
    """Callers are told so, and the download stops at the registry."""
    with scripted_registry() as hub:
        name = hub.put(image(noise_layer(2_000_000)), "team/app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=500_000))
        async with standing(opener) as stand:
            caller = stand.pull(name)
            await hub.until(lambda: hang.reached)
            (view,) = stand.pulls.running()
            assert stand.pulls.cancel(view.id)
            with pytest.raises(errors.PullCancelled, match="cancelled by the operator"):
                await caller
            await hub.until(lambda: not hub.open())
            await stand.nothing_left(name)


HANGS = [
    (Stage.PING, Hang()),
    (Stage.TOKEN, Hang()),
    (Stage.TOKEN, Hang(after=10)),
    (Stage.MANIFEST, Hang()),
    (Stage.MANIFEST, Hang(after=100)),
    (Stage.CONFIG, Hang()),
    (Stage.LAYER, Hang()),
    (Stage.LAYER, Hang(after=500_000)),
]
"""Where a registry may stop: before the answer or within its body, at every step of a pull."""


async def a_hang_is_cut_off(opener: Opener, stage: Stage, hang: Hang) -> str:
    """Wherever the registry stops, the deadline ends the pull and the connection; the next pull works.

    Returns:
        the error's text.
    """
    return await patiently(lambda still: _a_hang_is_cut_off(opener, stage, hang, still))


async def _a_hang_is_cut_off(opener: Opener, stage: Stage, hang: Hang, still: float) -> str:
    policy = PullPolicy(RegistryPolicy(progress_timeout=still))
    with scripted_registry(auth=Auth.BEARER) as hub:
        name = hub.put(image(noise_layer(2_000_000)), "team/app", "1")
        hung = hub.script(stage, hang)
        async with standing(opener, policy) as stand:
            with pytest.raises(errors.PullTimeout) as caught:
                await stand.pulled(name)
            assert hung.reached
            await hub.until(lambda: not hub.open())
            assert hub.asked(stage)[-1].end is End.CUT
            await stand.nothing_left(name)
            hub.release()
            stand.pulls.set_policy(PullPolicy())
            await stand.pulled(name)
        begin, _, end = caught.value.text.partition(" while ")
        assert begin == f"pull cut off: no progress for {duration_text(still)}"
        doing = end.removesuffix(f": {name}")
        assert doing in {"waiting for the registry to answer", "downloading layers"}
        assert doing == "downloading layers" or not hang.after or stage is not Stage.LAYER
        assert doing == "waiting for the registry to answer" or stage in {Stage.CONFIG, Stage.LAYER}
        return caught.value.text


async def a_trickle_is_not_cut_off(opener: Opener) -> tuple[float, float]:
    """A layer that comes slowly but does come takes several times the deadline and arrives.

    Returns:
        seconds that it took, and the deadline.
    """
    return await patiently(lambda still: _a_trickle_is_not_cut_off(opener, still))


async def _a_trickle_is_not_cut_off(opener: Opener, still: float) -> tuple[float, float]:
    policy = PullPolicy(RegistryPolicy(progress_timeout=still))
    made = image(noise_layer(400_000))
    with scripted_registry() as hub:
        name = hub.put(made, "team/app", "1")
        hub.script(Stage.LAYER, Trickle(40_000, still / 3.75))
        async with standing(opener, policy) as stand:
            began = time.monotonic()
            await stand.pulled(name)
            took = time.monotonic() - began
            assert took > 2 * still  # or the scenario shows nothing
        return took, still


async def a_long_unpack_is_not_cut_off(opener: Opener, size: int) -> tuple[float, float]:
    """A layer of zeros: there at once, unpacked for much longer than the deadline.

    Args:
        opener: of the backend.
        size: bytes of the layer, unpacked.

    Returns:
        seconds from the last byte to the end, and the deadline.
    """
    return await patiently(lambda _: _a_long_unpack_is_not_cut_off(opener, size))


async def _a_long_unpack_is_not_cut_off(opener: Opener, size: int) -> tuple[float, float]:
    # Always the short one: with a long one the layer would have to be several times as large.
    policy = PullPolicy(RegistryPolicy(progress_timeout=STILL))
    zeros = zeros_layer(size)
    with scripted_registry() as hub:
        name = hub.put(image(zeros), "team/zeros", "1")
        async with standing(opener, policy) as stand:
            caller = stand.pull(name)
            await hub.until(lambda: any(one.end is End.COMPLETE for one in hub.asked(Stage.LAYER)))
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                await caller
            took = time.monotonic() - began
            assert took > STILL  # or the scenario shows nothing: the layer has to be larger
            phases = {progress.phase for states in stand.seen.values() for progress in states}
            assert Phase.UNPACKING in phases
        return took, STILL


async def ten_hung_registries_and_the_eleventh(opener: Opener, parallel: int) -> float:
    """Ten registries never answer; the eleventh is served while they are still being waited for.

    Returns:
        seconds that the eleventh took.
    """
    with contextlib.ExitStack() as stack:
        hubs = [stack.enter_context(scripted_registry()) for _ in range(11)]
        names = [hub.put(image(layer({"n": str(number).encode()})), "app", "1") for number, hub in enumerate(hubs)]
        for hub in hubs[:10]:
            hub.script(Stage.MANIFEST, Hang())
        async with standing(opener, PullPolicy(RegistryPolicy(60), parallel=parallel)) as stand:
            hung = [stand.pull(name) for name in names[:10]]
            await hubs[0].until(lambda: hubs[0].open())
            began = time.monotonic()
            await stand.pulled(names[10])
            took = time.monotonic() - began
            assert not any(task.done() for task in hung)
            await hubs[0].until(lambda: hubs[0].open(Stage.MANIFEST))
            await gone(hung)
            for hub in hubs:
                await hub.until(lambda hub=hub: not hub.open())  # type: ignore[misc]
            await stand.nothing_left()
        return took


async def figures_of_progress(opener: Opener) -> list[list[PullProgress]]:
    """Bytes and layers never go back and end at the total, which is the manifest's sum less what was there.

    Returns:
        the states of both pulls.
    """
    base, own = noise_layer(600_000), noise_layer(300_000, seed=1)
    # None so small that it may arrive before an engine tells its size: until it is unpacked nobody knows the sum.
    images = [image(base), image(base, own, noise_layer(60_000, seed=2))]
    with scripted_registry() as hub:
        names = [hub.put(made, f"team/app{number}", "1") for number, made in enumerate(images)]
        async with standing(opener) as stand:
            for number, name in enumerate(names, 1):
                # So slow that a busy machine can watch it, until somebody has.
                slow = hub.script(Stage.LAYER, Trickle(20_000, 0.4))
                pulling = asyncio.create_task(stand.pulled(name))
                while not (pulling.done() or _on_the_way(stand.seen.get(str(number), []))):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                slow.release()
                await pulling
            await stand.pulled(names[1])
            await asyncio.sleep(0.1)
            first, second, unchanged = (stand.seen[number] for number in "123")
    for states, to_fetch, reused in ((first, images[0].layers, 0), (second, images[1].layers[1:], 1)):
        for name in ("bytes_done", "layers_done"):
            amounts = [getattr(state, name) for state in states]
            assert all(before <= after for before, after in pairwise(amounts)), amounts
        total = sum(len(one.data) for one in to_fetch)
        assert {state.bytes_total for state in states} <= {None, total}
        assert {state.layers_total for state in states} <= {None, len(to_fetch)}
        assert {state.layers_reused for state in states} <= {None, reused}
        last = states[-1]
        assert (last.phase, last.bytes_done, last.bytes_total) == (Phase.DONE, total, total)
        assert (last.layers_done, last.layers_total, last.layers_reused) == (len(to_fetch), len(to_fetch), reused)
        assert not last.unchanged
        assert _on_the_way(states)  # or nobody could have watched it
    assert (unchanged[-1].unchanged, unchanged[-1].bytes_done, unchanged[-1].layers_reused) == (True, 0, 3)
    return [first, second]


def _on_the_way(states: list[PullProgress]) -> list[PullProgress]:
    """Those that show some bytes, and not all."""
    return [state for state in states if state.bytes_total and 0 < state.bytes_done < state.bytes_total]


async def faults_are_told_apart(opener: Opener) -> None:
    """One registry fails in many ways while another serves: each caller hears of its own, the other of nothing."""
    with scripted_registry() as bad, scripted_registry() as good:
        fine = good.put(image(noise_layer(10_000)), "app", "1")
        for number, status in enumerate((401, 403, 404, 500)):
            bad.put(image(layer({"n": bytes([number])})), f"app{status}", "1")
            bad.script(Stage.MANIFEST, Answer(status, b"<html>no</html>"), repository=f"app{status}")
        async with standing(opener) as stand:
            failing = [stand.pull(f"{bad.address}/app{status}:1") for status in (401, 403, 404, 500)]
            await stand.pulled(fine)
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*failing, return_exceptions=True)
            assert all(isinstance(result, errors.PullError) for result in results), results
            assert not any("html" in str(result) for result in results)
            await stand.nothing_left()


def zeros_layer(size: int) -> Layer:
    """A layer of one file of zeros, made without ever holding all of it."""
    header = tarfile.TarInfo("zeros")
    header.size = size
    end = bytes(-size % 512 + 1024)
    packer, plain, packed = zlib.compressobj(1, zlib.DEFLATED, 31), hashlib.sha256(), []
    chunk = bytes(2**20)
    whole, rest = divmod(size, len(chunk))
    for part in (header.tobuf(), *([chunk] * whole), chunk[:rest], end):
        plain.update(part)
        packed.append(packer.compress(part))
    data = b"".join(packed) + packer.flush()
    digest, diff_id = hashlib.sha256(data).hexdigest(), plain.hexdigest()
    return Layer(data, f"sha256:{digest}", f"sha256:{diff_id}", 512 + size + len(end))
