"""Pulls through `criimage serve` with a real store: its log, its limits, its end (issue 5)."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from criimage.channel import CallError, Channel
from criimage.cri.runtime.v1 import AuthConfig, ImageSpec, PodSandboxConfig, PodSandboxMetadata, PullImageRequest
from criimage.testing.oci import image, noise_layer
from criimage.testing.scripted_registry import Auth, End, Hang, Stage, scripted_registry
from parts.child import free_port
from parts.criimage_process import criimage, store_config
from parts.store import store

if TYPE_CHECKING:
    from parts.criimage_process import Criimage

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

CANARY = "c4n4ry-7f3a9c"
LARGE = image(noise_layer(2_000_000))


async def pull(channel: Channel, name: str, password: str = "") -> None:
    """Asks for a pull as a kubelet does."""
    request = PullImageRequest(image=ImageSpec(image=name))
    request.sandbox_config = PodSandboxConfig(metadata=PodSandboxMetadata(name="web-0", namespace="shop"))
    if password:
        request.auth = AuthConfig(username="bob", password=password)
    await channel.unary("/runtime.v1.ImageService/PullImage", bytes(request))


def lines(server: Criimage, event: str) -> list[dict[str, Any]]:
    """The log's lines of an event; the log is JSON."""
    found = [json.loads(line) for line in server.log_text().splitlines()]
    return [line for line in found if line.get("event") == event]


def shown(server: Criimage) -> str:
    """What `criimage pulls` prints."""
    command = [sys.executable, "-m", "criimage", "pulls", "--endpoint", server.endpoint, "--output", "json"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def metrics(port: int) -> str:
    """What Prometheus would read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


async def test_the_record_of_pulls_and_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    """Pulled, unchanged and refused ones in log and figures; the password is in none of it, even at debug (T12)."""
    made, port = image(noise_layer(50_000), noise_layer(20_000, seed=1)), free_port()
    more = f'[log]\nlevel = "debug"\nformat = "json"\n[metrics]\naddress = "127.0.0.1:{port}"\n'
    with scripted_registry(auth=Auth.BEARER, accounts={"bob": CANARY}) as hub, store() as local:
        name = hub.put(made, "team/app", "1")
        with criimage(store_config(local, more=more)) as server:
            async with Channel(server.socket) as channel:
                hang = hub.script(Stage.LAYER, Hang(after=1000))
                first = asyncio.create_task(pull(channel, name, CANARY))
                await hub.until(lambda: hang.reached)
                views = await asyncio.to_thread(shown, server)
                assert json.loads(views)["pulls"][0]["waiters"] == ["shop/web-0"]
                hang.release()
                await first
                await pull(channel, name, CANARY)
                with pytest.raises(CallError) as caught:
                    await pull(channel, name, f"{CANARY}-wrong")
            figures = await asyncio.to_thread(metrics, port)
            await asyncio.to_thread(server.stop)
            pulled, unchanged = lines(server, "pull finished")
            (failed,) = lines(server, "pull failed")
            log = server.log_text()
    sizes = sum(len(one.data) for one in made.layers)
    expected: dict[str, object] = {
        "reference": name,
        "resolved": name,
        "namespace": "shop",
        "pod": "web-0",
        "bytes": sizes,
        "bytes_total": sizes,
        "layers": 2,
        "layers_reused": 0,
        "credentials": "request",
        "outcome": "pulled",
        "digest": made.digest,
        "image": made.id.removeprefix("sha256:"),
    }
    assert {key: pulled[key] for key in expected} == expected
    unchanged_ones = ("bytes", "layers_reused", "outcome", "digest")
    assert [unchanged[key] for key in unchanged_ones] == [0, 2, "unchanged", made.digest]
    assert (failed["outcome"], failed["credentials"]) == ("access_denied", "request")
    backend = 'backend="containers-storage"'
    for series in (
        f"criimage_pulls_success_total{{{backend}}} 2.0",
        f"criimage_pulls_unchanged_total{{{backend}}} 1.0",
        f"criimage_pulls_bytes_total{{{backend}}} {float(sizes)}",
        f'criimage_pulls_failures_total{{{backend},kind="access_denied"}} 1.0',
        f"criimage_pulls_in_progress{{{backend}}} 0.0",
    ):
        assert series in figures
    for text in (views, figures, log, caught.value.text, *capfd.readouterr()):
        assert CANARY not in text


async def test_sigterm_in_the_middle_of_pulls() -> None:
    """Within five seconds: callers are told, downloads stop at the registry, nothing is left (design section 7)."""
    with scripted_registry() as hub, store() as local:
        names = [hub.put(LARGE, f"team/app{number}", "1") for number in range(3)]
        hang = hub.script(Stage.LAYER, Hang(after=500_000))
        with criimage(store_config(local)) as server:
            async with Channel(server.socket) as channel:
                calls = [asyncio.create_task(pull(channel, name)) for name in names]
                await hub.until(lambda: hang.reached == 3)
                await asyncio.to_thread(server.stop)
                told = await asyncio.gather(*calls, return_exceptions=True)
        assert {getattr(error, "text", error) for error in told} == {"the image service is stopping"}
        await hub.until(lambda: not hub.open())
        assert {request.end for request in hub.asked(Stage.LAYER)} == {End.CUT}
        assert list(local.tmp.iterdir()) == []
        assert local.images() == {}


async def test_limits_change_with_sighup() -> None:
    """A queued pull begins when the limit is raised in the file; the running one is not disturbed."""
    with scripted_registry() as hub, store() as local:
        names = [hub.put(LARGE, f"team/app{number}", "1") for number in range(2)]
        hang = hub.script(Stage.LAYER, Hang(after=500_000))
        limited = "[pulls]\nmax_parallel_per_registry = {}\n"
        with criimage(store_config(local, more=limited.format(1))) as server:
            async with Channel(server.socket) as channel:
                calls = [asyncio.create_task(pull(channel, names[0]))]
                await hub.until(lambda: hang.reached == 1)
                calls.append(asyncio.create_task(pull(channel, names[1])))
                while len(found := json.loads(await asyncio.to_thread(shown, server))["pulls"]) < 2:
                    pass
                assert found[0]["phase"] in {"resolving", "downloading"}
                assert found[1]["phase"] == "queued"
                server.config.write_text(store_config(local, more=limited.format(2)))
                server.reload()
                await hub.until(lambda: hang.reached == 2)
                hub.release()
                await asyncio.gather(*calls)
