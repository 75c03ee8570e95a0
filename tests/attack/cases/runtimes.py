"""What a container runtime does that stands behind the cri backend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from attack.case import case
from attack.target import HEALTH, LIST, PULL, pull_request
from criimage.testing.scripted_registry import Hang, Stage
from parts.raw_client import framed, grpc_headers

if TYPE_CHECKING:
    from attack.target import Target

_OK, _UNAVAILABLE = 0, 14


async def _well_again(target: Target) -> None:
    async with asyncio.timeout(30):
        while (await target.call(LIST)).status != _OK:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.2)
    assert (await target.pull(target.fresh())).status == _OK, "the next pull failed"


@case("runtimes", "the runtime is killed under a pull, then started again", backends=("cri",), first=True)
async def killed_runtime(target: Target) -> None:
    """The pull and all other calls are UNAVAILABLE at once; without a restart of ours all is well again."""
    assert target.runtime is not None
    script = target.registry.script(Stage.LAYER, Hang(), repository="attack/image")
    async with target.client() as client:
        pull = await client.send(grpc_headers(PULL), framed(pull_request(target.fresh())))
        await target.registry.until(lambda: script.reached)
        await asyncio.to_thread(target.runtime.kill)
        script.release()
        try:
            await pull.finished()
            assert pull.status == _UNAVAILABLE, f"the pull answered {pull.status}: {pull.message[:100]}"
            answer = await target.call(LIST)
            assert answer.status == _UNAVAILABLE, f"a list answered {answer.status}: {answer.message[:100]}"
        finally:
            await asyncio.to_thread(target.runtime.start)
    await _well_again(target)


@case("runtimes", "the runtime is stopped, then goes on", backends=("cri",))
async def deaf_runtime(target: Target) -> None:
    """Health says so within its limit; then all is well again."""
    assert target.runtime is not None
    with target.runtime.frozen():
        answer = await target.call(HEALTH)
        assert answer.status == _OK
        assert answer.data[5:] == b"\x08\x02", "health says that it serves"
    await _well_again(target)
