"""The relay after thousands of calls: as large as before."""

from __future__ import annotations

import gc
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from criimage.testing.scripted_runtime import Script, ScriptedRuntime
from parts.criimage_process import criimage
from parts.raw_client import RawClient, framed, grpc_headers, raw_client
from relay.between import STATUS, UNKNOWN_METHOD, relayed

if TYPE_CHECKING:
    from collections.abc import Callable


def _descriptors(process: int | str = "self") -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def _resident(process: int) -> int:
    """Bytes of memory that a process has of its own."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])


async def many_calls(client: RawClient, runtime: ScriptedRuntime, count: int) -> None:
    """So many calls, at most 50 at once, one in 50 of them left by the client."""
    runtime.on(STATUS, Script(messages=(b"answer",)))
    runtime.on(UNKNOWN_METHOD, Script(stall_after=0))
    for _ in range(0, count, 50):
        stalled = await client.send(grpc_headers(UNKNOWN_METHOD), framed(b"x" * 100))
        calls = [await client.send(grpc_headers(STATUS), framed(b"x" * 100)) for _ in range(49)]
        for call in calls:
            assert (await call.finished()).status == 0
        client.cancel(stalled)
        await client.flush()
        client.answers.clear()
        runtime.calls.clear()


async def flat(folder: Path, count: int) -> None:
    """Sees that no object and no descriptor stays, however many calls there are."""
    async with relayed(folder) as there:
        await many_calls(there.client, there.runtime, 500)
        await there.server.quiet()
        gc.collect()
        before = (len(gc.get_objects()), _descriptors())
        await many_calls(there.client, there.runtime, count)
        await there.server.quiet()
        gc.collect()
        after = (len(gc.get_objects()), _descriptors())
        assert after[1] <= before[1]
        assert after[0] - before[0] < 2_000


async def test_calls_leave_nothing(tmp_path: Path) -> None:
    """No object and no descriptor stays of a call, whatever its end."""
    await flat(tmp_path, 1_000)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_20_000_calls_leave_nothing(tmp_path: Path) -> None:
    """The same over 20,000 calls."""
    await flat(tmp_path, 20_000)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_20_000_calls_take_no_memory(tmp_path: Path, long_run: Callable[[str, str], None]) -> None:
    """A server in a process of its own: after the first 10,000 calls, 10,000 more add next to nothing to it."""
    path = tmp_path / "runtime.sock"
    config = f'backend = "memory"\n[runtime]\nendpoint = "unix://{path}"\n'
    async with ScriptedRuntime(path) as runtime:
        with criimage(config) as server:
            async with raw_client(server.socket) as client:
                seen = []
                for count in (2_000, 8_000, 10_000):
                    await many_calls(client, runtime, count)
                    seen.append((_resident(server.process.pid), _descriptors(server.process.pid)))
    after = ", ".join(f"{size / 2**20:.1f} MiB and {files} descriptors" for size, files in seen)
    long_run(f"Linux {platform.release()}", f"after 2,000, 10,000 and 20,000 calls: {after}")
    assert len({files for _, files in seen}) == 1
    assert seen[2][0] - seen[1][0] < 2**20
