"""What is said to a skopeo that is kept up, by a script and without any process."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from criimage.reference import Reference
from criimage_containers_storage.pulling.proxy_protocol import (
    Found,
    OddProxyError,
    RefusedError,
    Reply,
    Request,
    UnansweredError,
    ask_digest,
    ask_manifest,
    greet,
    read_reply,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
TAG = Reference.parse("a.io/x:1")
TYPE = 'time="2026-01-01T00:00:00Z" level=debug msg="Content-Type from manifest GET is \\"{}\\""\n'
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(slots=True)
class Scripted:
    """Answers each method as it was told, and remembers what was asked."""

    answers: Mapping[str, object]
    log: str = ""
    asked: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)

    async def call(self, request: Request) -> Reply:
        """Answers, or raises what stands in place of an answer."""
        self.asked.append(request.method)
        self.slow += [] if request.quick else [request.method]
        answer = self.answers.get(request.method)
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer)

    async def content(self) -> bytes:
        """What every pipe holds."""
        return b"{}"

    def said(self) -> str:
        """What the log holds."""
        return self.log


GOOD = {"Initialize": "0.2.3", "OpenImage": 7, "GetManifest": ONE}


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"success":1,"value":1,"pipeid":0,"error":""}',
        b'{"success":true,"value":1,"pipeid":"1","error":""}',
        b'{"success":true,"value":1,"pipeid":-1,"error":""}',
        b'{"success":true,"value":1,"pipeid":true,"error":""}',
        b'{"success":true,"value":1,"pipeid":3,"error":""}',
        b'{"success":false,"value":1,"pipeid":0,"error":[]}',
        b'{"value":1}',
    ],
)
def test_what_is_no_reply(packet: bytes) -> None:
    """Nothing is concluded from a packet that is not exactly a reply, or whose pipe has not come (T17)."""
    with pytest.raises(OddProxyError):
        read_reply(packet, with_pipe=False)


def test_replies() -> None:
    """Success with its value and pipe, failure with its words; a pipe that nobody promised is odd (T17)."""
    assert read_reply(b'{"success":true,"value":"0.2.3","pipeid":0,"error":""}', with_pipe=False) == Reply("0.2.3")
    assert read_reply(b'{"success":true,"value":"x","pipeid":9,"error":""}', with_pipe=True) == Reply("x", 9)
    with pytest.raises(RefusedError, match="manifest unknown"):
        read_reply(b'{"success":false,"value":null,"pipeid":0,"error":"manifest unknown"}', with_pipe=False)
    with pytest.raises(OddProxyError):
        read_reply(b'{"success":true,"value":1,"pipeid":0,"error":""}', with_pipe=True)


def test_a_request() -> None:
    """JSON with a method and a list of arguments (T17)."""
    packet = Request("OpenImage", ("docker://a.io/x:1",)).packet
    assert json.loads(packet) == {"method": "OpenImage", "args": ["docker://a.io/x:1"]}


@pytest.mark.parametrize(("version", "number"), [("0.2.3", 3), ("0.2.6", 6), ("0.2.17", 17)])
async def test_versions_that_are_spoken(version: str, number: int) -> None:
    """Every 0.2 is the same language as far as it is used here (T17)."""
    assert await greet(Scripted({"Initialize": version})) == number


@pytest.mark.parametrize("version", ["0.3.0", "1.0.0", "0.2", "0.2.x", "", None, 3, ["0.2.3"]])
async def test_versions_that_are_not(version: object) -> None:
    """Another language is not guessed at (T17)."""
    with pytest.raises(OddProxyError):
        await greet(Scripted({"Initialize": version}))


async def test_only_what_asks_a_registry_may_take_its_time(tmp_path: Path) -> None:
    """A registry's silence is a pull's to judge; whatever skopeo can answer by itself has a few seconds (T17)."""
    connection = Scripted(GOOD, TYPE.format(OCI))
    await greet(connection)
    await ask_manifest(connection, TAG)
    with pytest.raises(UnansweredError):
        await ask_digest(connection, TAG, tmp_path)
    assert connection.asked == ["Initialize", "OpenImage", "GetManifest", "CloseImage", "OpenImage", "CloseImage"]
    assert connection.slow == ["OpenImage", "GetManifest", "OpenImage"]


@pytest.mark.parametrize(
    ("reference", "kinds", "top"),
    [
        (TAG, [OCI], ONE),
        (TAG, [f"{OCI}; charset=utf-8"], ONE),
        (TAG, ["application/vnd.docker.distribution.manifest.v2+json"], ONE),
        # Of an index only what it leads to is told.
        (TAG, [INDEX], ""),
        (TAG, ["application/vnd.docker.distribution.manifest.list.v2+json"], ""),
        # A mirror has failed with a page before the registry answered.
        (TAG, ["text/html", OCI], ONE),
        (TAG, [OCI, INDEX], ""),
        # skopeo has compared it.
        (TAG.with_digest(TWO), [INDEX], TWO),
        (TAG.with_digest(ONE), [], ONE),
    ],
)
async def test_what_a_manifest_was_found_by(reference: Reference, kinds: list[str], top: str) -> None:
    """The digest of what the name itself leads to is never taken from what an index leads to (P6-P9)."""
    proxy = Scripted(GOOD, "".join(map(TYPE.format, kinds)))
    assert await ask_manifest(proxy, reference) == Found(top, ONE, b"{}")
    assert proxy.asked == ["OpenImage", "GetManifest", "CloseImage"]


@pytest.mark.parametrize("kind", ["", "text/plain", 'x\\\\\\"\nlevel=debug', "application/json"])
async def test_a_manifest_of_an_unknown_kind(kind: str) -> None:
    """Where it is not plain what the name leads to, the proxy has not answered; it has closed the image (P6)."""
    proxy = Scripted(GOOD, TYPE.format(kind))
    with pytest.raises(UnansweredError):
        await ask_manifest(proxy, TAG)
    assert proxy.asked[-1] == "CloseImage"


async def test_refusals() -> None:
    """A registry's refusal is passed on; one of the proxy itself, as of schema 1, is no answer (P10, T17)."""
    with pytest.raises(RefusedError, match="unauthorized"):
        await ask_manifest(Scripted({"OpenImage": RefusedError("unauthorized")}), TAG)
    proxy = Scripted({"OpenImage": 1, "GetManifest": RefusedError("unsupported legacy manifest")}, TYPE.format(OCI))
    with pytest.raises(UnansweredError):
        await ask_manifest(proxy, TAG)
    assert proxy.asked == ["OpenImage", "GetManifest", "CloseImage"]
    with pytest.raises(OddProxyError):
        await ask_manifest(Scripted({**GOOD, "CloseImage": RefusedError("no image 7")}, TYPE.format(OCI)), TAG)


@pytest.mark.parametrize("answer", [None, 0, -1, True, "1", 1.5])
async def test_an_image_without_a_number(answer: object) -> None:
    """Zero is what newer ones say for an image that is not there; it is not asked for that way (T17)."""
    with pytest.raises(OddProxyError):
        await ask_manifest(Scripted({"OpenImage": answer}), TAG)


@pytest.mark.parametrize("answer", [None, "", "sha256:1", ONE.upper(), 5])
async def test_a_digest_that_is_none(answer: object) -> None:
    """Only a whole digest counts (T17)."""
    with pytest.raises(OddProxyError):
        await ask_manifest(Scripted({"OpenImage": 1, "GetManifest": answer}, TYPE.format(OCI)), TAG)


READING = 'time="2026-01-01T00:00:00Z" level=debug msg="Reading {}"\n'
UNSIGNED = RefusedError("A signature was required, but no signature exists")
PLACE = Path("/work/a.b/signatures")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ([f"{PLACE}/x@sha256={'1' * 64}/signature-1"], ONE),
        ([f"{PLACE}/team/a_b-c.d/x@sha256={'1' * 64}/signature-1"], ONE),
        # The first mirror had another one, and did not keep it.
        ([f"{PLACE}/x@sha256={'2' * 64}/signature-1", f"{PLACE}/x@sha256={'1' * 64}/signature-1"], ONE),
    ],
)
async def test_where_signatures_were_looked_for(said: list[str], answer: str) -> None:
    """The digest of what a tag leads to, an index too, by the name of the file that is not there (P6-P9)."""
    proxy = Scripted({"OpenImage": UNSIGNED}, "".join(map(READING.format, said)))
    assert await ask_digest(proxy, TAG, PLACE) == Found(answer)
    assert proxy.asked == ["OpenImage"]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "/elsewhere/x@sha256=" + "1" * 64 + "/signature-1",
        f"{PLACE}/x@sha256={'1' * 63}/signature-1",
        f"{PLACE}/x@sha512={'1' * 64}/signature-1",
        f"{PLACE}/x@sha256={'1' * 64}/signature-2",
        f"/work/aXb/signatures/x@sha256={'1' * 64}/signature-1",
        f'{PLACE}/\\"x@sha256={"1" * 64}/signature-1',
    ],
)
async def test_where_nothing_tells_the_digest(said: str) -> None:
    """Nothing is guessed from any other line (T17)."""
    with pytest.raises(UnansweredError):
        await ask_digest(Scripted({"OpenImage": UNSIGNED}, READING.format(said)), TAG, PLACE)


async def test_an_opening_that_should_have_failed() -> None:
    """Without a look for signatures there is no answer, and the image is closed; a refusal stays one (T17)."""
    proxy = Scripted({"OpenImage": 4})
    with pytest.raises(UnansweredError):
        await ask_digest(proxy, TAG, PLACE)
    assert proxy.asked == ["OpenImage", "CloseImage"]
    with pytest.raises(RefusedError, match="unauthorized"):
        await ask_digest(Scripted({"OpenImage": RefusedError("unauthorized")}), TAG, PLACE)
