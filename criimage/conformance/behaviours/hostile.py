"""Input that nobody sends by mistake: each is refused or survived, and the service answers the next call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.conformance.client import CallError
from criimage.cri.runtime import v1
from criimage.files import is_there
from criimage.testing import oci
from criimage.testing.scripted_registry import Answer, Stage

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_hostile = group("hostile", Need.HOSTILE)
_SERVICE = "/runtime.v1.ImageService"
_PATH_WHY = "A request that ends the service ends every pull of the node."


async def _lives(t: Trial) -> None:
    await t.client.version()
    await t.client.usage()


async def _survived(t: Trial, method: str, message: bytes) -> None:
    """Send something, whatever the answer is, and see that the service lives."""
    try:
        await t.client.send(f"{_SERVICE}/{method}", message)
    except CallError as error:
        t.expect(error.status.name != "UNAVAILABLE", f"{method} is answered", f"the connection is gone: {error.text}")
    await _lives(t)


@_hostile.required(
    "H1",
    "A status, pull or removal without an image does not end the service.",
    why=_PATH_WHY,
    source="peers-observed 2 (cri-dockerd ends)",
)
async def without_an_image(t: Trial) -> None:
    for method in ("ImageStatus", "PullImage", "RemoveImage"):
        await _survived(t, method, b"")
        await _survived(t, method, b"\x0a\x00")


@_hostile.required(
    "H2",
    "Bytes that are no message are refused.",
    why=_PATH_WHY,
    source="python-stack 1",
)
async def no_message(t: Trial) -> None:
    for method in ("ImageStatus", "PullImage", "RemoveImage", "ListImages"):
        for message in (b"\xff\xff\xff\xff", b"\x0a\xff\x01", b"\x0a\x05abc", b"\x08" + b"\xff" * 11):
            await t.refused(t.client.send(f"{_SERVICE}/{method}", message), what=f"{method} with {message.hex()}")
    await _lives(t)


@_hostile.required(
    "H3",
    "A name of a megabyte is refused.",
    why=_PATH_WHY,
    source="design 4, foreign text",
)
async def a_huge_name(t: Trial) -> None:
    for name in ("a" * 2**20, "a/" * 2**19, ":" * 2**20):
        await t.refused(t.client.pull(name), what="the pull of a name of a megabyte")
    await _lives(t)


@_hostile.required(
    "H4",
    "A name that is no UTF-8 is refused.",
    why=_PATH_WHY,
    source="python-stack 1",
)
async def no_utf_8(t: Trial) -> None:
    spec = b"\x0a\x04" + b"a\xff\xfeb"
    message = b"\x0a" + bytes([len(spec)]) + spec
    for method in ("PullImage", "ImageStatus", "RemoveImage"):
        await _survived(t, method, message)


@_hostile.required(
    "H5",
    "Four thousand annotations do not disturb a pull.",
    why="A kubelet sends all annotations of the pod, up to 256 KiB of them, and anybody may write those.",
    source="cri-protocol 1.2, ImageSpec",
)
async def many_annotations(t: Trial) -> None:
    made = await t.publish()
    await t.client.pull(made.name, annotations={f"key-{n}": "v" for n in range(4_000)})
    await t.present(made.name)


@_hostile.required(
    "H6",
    "A request of more than 16 MiB is refused or answered, and the service lives.",
    why=_PATH_WHY,
    source="cri-protocol 2.2",
)
async def a_huge_request(t: Trial) -> None:
    await _survived(t, "ListImages", b"\x5a" + b"\x80\x80\x80\x09" + b"x" * (9 << 21))


@_hostile.required(
    "H7",
    "A registry's error of a megabyte fails the pull and nothing else.",
    why="Any pod may name such a registry.",
    source="design 4, foreign text",
    needs=Need.SCRIPTED,
)
async def a_huge_error(t: Trial) -> None:
    made = await t.publish()
    t.supply.hub.script(Stage.MANIFEST, Answer(500, b'"/' * 500_000), repository=made.path)
    await t.refused(t.client.pull(made.name, seconds=60.0), what="the pull")
    await _lives(t)


@_hostile.required(
    "H8",
    "A manifest that is no JSON, or deeply nested, is refused.",
    why="Any pod may name such an image.",
    source="python-stack 7",
    needs=Need.SCRIPTED,
)
async def nonsense_manifests(t: Trial) -> None:
    for number, body in enumerate((b"no json", b"[" * 100_000, b"{}", b"null", b'{"schemaVersion":1e999}')):
        made = await t.publish(t.image(str(number)), "1")
        answer = Answer(200, body, {"Content-Type": oci.OCI_MANIFEST})
        t.supply.hub.script(Stage.MANIFEST, answer, repository=made.path)
        await t.refused(t.client.pull(made.name), what=f"the pull of {body[:20]!r}")
        await t.absent(made.name)
    await _lives(t)


@_hostile.required(
    "H9",
    "Labels that would break JSON do not break a verbose status.",
    why="Anybody may write them; `crictl inspecti` has to survive.",
    source="dockershim S8",
)
async def labels_of_an_enemy(t: Trial) -> None:
    labels = {"a": '{"', "b": "\\u0000", "c": "x" * 20_000, '"': "\x1b[31m", "d": "NaN"}
    made = await t.pulled(t.image(config=oci.Config(labels=labels)))
    for value in (await t.client.status(made.name, verbose=True)).info.values():
        if value.startswith("{"):
            try:
                json.loads(value)
            except ValueError as error:
                t.expect(condition=False, expected="each object in info is JSON", got=f"{error}")


@_hostile.required(
    "H10",
    "A layer cannot write outside the image.",
    why="It would own the node.",
    source="cri-o section 8",
)
async def paths_out_of_the_image(t: Trial) -> None:
    mark = f"/tmp/{t.supply.run}-escaped"  # noqa: S108 - nothing is made there
    made = await t.publish(oci.image(oci.layer({f"../../../../../../../../../..{mark}": b"out"})))
    try:
        await t.client.pull(made.name)
    except CallError:
        await _lives(t)
    t.expect(not _exists(mark), "no file appears outside", f"{mark} is there")


def _exists(path: str) -> bool:
    return is_there(Path(path))


@_hostile.extended(
    "H11",
    "A pull whose image config claims other layers than the manifest has is refused.",
    why="What is listed would not be what was pulled.",
    source="cri-o T16",
)
async def a_lying_config(t: Trial) -> None:
    item = oci.image(oci.layer({"a": f"{t.supply.run}".encode()}), diff_ids=[f"sha256:{'1' * 64}"])
    made = await t.publish(item)
    await t.refused(t.client.pull(made.name), what="the pull")
    await t.absent(made.name)


@_hostile.required(
    "H12",
    "Unknown fields and unknown enum values are passed over.",
    why="Clients are newer than services.",
    source="cri-protocol 1.2",
)
async def unknown_fields(t: Trial) -> None:
    made = await t.pulled()
    request = bytes(v1.ImageStatusRequest(image=v1.ImageSpec(image=made.name)))
    answer = await t.client.send(f"{_SERVICE}/ImageStatus", request + b"\xc2\xbb\x01\x03new")
    t.expect(v1.ImageStatusResponse().parse(answer).image.id, "the image is found")
