"""A registry that is against us. Real backends only: the one in memory has none."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from attack.case import case
from attack.target import PULL, pull_request
from criimage.testing.scripted_registry import Answer, Change, Close, Hang, Stage, corrupted, truncated
from parts.raw_client import framed, grpc_headers

if TYPE_CHECKING:
    from attack.target import Target
    from criimage.testing.scripted_acts import Act

REAL = ("containers-storage", "docker", "cri")
_TEXT_LIMIT = 4000
_JSON = {"Content-Type": "application/json"}
_MANIFEST = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}


def _errors(text: str) -> bytes:
    return json.dumps({"errors": [{"code": "DENIED", "message": text, "detail": text}]}).encode()


ACTS: dict[str, tuple[Stage, Act]] = {
    "an error of 40 kB of quotes and slashes": (Stage.MANIFEST, Answer(403, b'"' + b"/" * 40_000)),
    "an error of 1 MB of question marks": (Stage.MANIFEST, Answer(403, b"?" * 1_000_000)),
    "an error of 1 MB of letters": (Stage.MANIFEST, Answer(500, b"a" * 1_000_000)),
    "an error of 1 MB as JSON": (Stage.MANIFEST, Answer(403, _errors("a/" * 500_000), _JSON)),
    "an error of terminal codes": (Stage.MANIFEST, Answer(403, _errors("\x1b[2J\r\nforged"), _JSON)),
    "HTML": (Stage.MANIFEST, Answer(503, b"<html>" + b"<p>" * 10_000)),
    "a manifest nested 100,000 times": (Stage.MANIFEST, Answer(200, b"[" * 100_000, _MANIFEST)),
    "a manifest with a number of 100,000 digits": (
        Stage.MANIFEST,
        Answer(200, b'{"schemaVersion": ' + b"9" * 100_000 + b"}", _MANIFEST),
    ),
    "an empty manifest": (Stage.MANIFEST, Answer(200, b"", _MANIFEST)),
    "no manifest but null": (Stage.MANIFEST, Answer(200, b"null", _MANIFEST)),
    "a manifest cut short": (Stage.MANIFEST, Change(truncated)),
    "another config": (Stage.CONFIG, Change(corrupted)),
    "another layer": (Stage.LAYER, Change(corrupted)),
    "half a layer": (Stage.LAYER, Change(truncated)),
    "closed before the manifest": (Stage.MANIFEST, Close()),
    "closed in the layer": (Stage.LAYER, Close(10)),
    "a redirect to itself": (Stage.MANIFEST, Answer(307, b"", {"Location": "/v2/attack/image/manifests/latest"})),
    "401 without a challenge": (Stage.MANIFEST, Answer(401)),
    "a challenge of 30 kB": (Stage.MANIFEST, Answer(401, b"", {"WWW-Authenticate": "Bearer realm=" + '"' * 30_000})),
}


def _hostile(name: str, stage: Stage, act: Act) -> None:
    # An engine tries a layer again for a minute and more before it gives up.
    backends = REAL[:1] if isinstance(act, Close) and act.after else REAL

    @case("registry", name, backends=backends, first=name == "an error of 40 kB of quotes and slashes")
    async def run(target: Target) -> None:
        script = target.registry.script(stage, act, repository="attack/image")
        try:
            answer = await target.pull(target.fresh())
        finally:
            script.release()
        # The engine's own fault at a manifest of null ends its answer: it counts as down then.
        assert answer.status in {2, 14}, f"answered {answer.status}: {answer.message[:200]}"
        assert len(answer.message) < _TEXT_LIMIT
        assert answer.message.isprintable()


for _name, (_stage, _act) in ACTS.items():
    _hostile(_name, _stage, _act)


def _hanging(stage: Stage) -> None:
    @case("registry", f"hangs at the {stage.value}; the pull is cancelled", backends=REAL)
    async def run(target: Target) -> None:
        script = target.registry.script(stage, Hang(), repository="attack/image")
        try:
            async with target.client() as client:
                answer = await client.send(grpc_headers(PULL), framed(pull_request(target.fresh())))
                await target.registry.until(lambda: script.reached)
                client.cancel(answer)
                await client.flush()
            async with asyncio.timeout(20):
                while b"attack/image" in (await target.call("/criimage.v1.PullService/ListPulls")).data:  # noqa: ASYNC110 - another process is waited for
                    await asyncio.sleep(0.1)
        finally:
            script.release()


for _stage in (Stage.MANIFEST, Stage.CONFIG, Stage.LAYER):
    _hanging(_stage)
