"""What is said to a skopeo that is kept up, and what it answers (cri-o T17; skopeo's cmd/skopeo/proxy.go, 0.2.x).

Requests and replies are JSON, one to a packet. What is large comes through a pipe whose reading end arrives with the
reply, and which skopeo closes when it is told that we know about it. No socket is needed here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from criimage.foreign_json import parse_object
from criimage.foreign_text import readable

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.reference import Reference

__all__ = [
    "VERSION_WITH_POLICY",
    "Connection",
    "Found",
    "OddProxyError",
    "RefusedError",
    "Reply",
    "Request",
    "UnansweredError",
    "UselessError",
    "ask_digest",
    "ask_manifest",
    "greet",
    "read_reply",
]

VERSION_WITH_POLICY = 6
"""Last number of the first version in which an image is opened only if the policy accepts it."""

_WORDS_LIMIT = 300
_VERSION = re.compile(r"0\.2\.([0-9]{1,6})")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# skopeo quotes what a registry has sent, and its log quotes that again: nobody ends these words but itself.
_TYPE = re.compile(
    r'^time="[^"]{1,64}" level=debug msg="Content-Type from manifest GET is \\"([^"\\]{0,256})\\""$', re.MULTILINE
)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# containers/image, signature/policy_eval_signedby.go
_UNSIGNED = "A signature was required, but no signature exists"


class OddProxyError(Exception):
    """It has answered something that is not understood, or not at all: it is not to be used any more."""


class UnansweredError(Exception):
    """It works, but what was asked cannot be told by it."""


class UselessError(UnansweredError):
    """It works, and will never tell what it was started for: it is ended."""


class RefusedError(Exception):
    """It has answered that it failed, with these words."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: its name.
        arguments: of the method.
        quick: it is answered without asking a registry.
    """

    method: str
    arguments: tuple[object, ...] = ()
    quick: bool = True

    @property
    def packet(self) -> bytes:
        """As it is sent."""
        return json.dumps({"method": self.method, "args": self.arguments}).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply.

    Attributes:
        value: what the method returns.
        pipe: the number under which `FinishPipe` knows the pipe that came with it; 0 if none came.
    """

    value: object = None
    pipe: int = 0


class Connection(Protocol):
    """The way to one proxy."""

    async def call(self, request: Request) -> Reply:
        """Return the reply to a request.

        Raises:
            RefusedError: skopeo could not do it.
            OddProxyError: there is no reply, or it cannot be one.
        """
        ...

    async def content(self) -> bytes:
        """Return what comes through the pipe of the last reply, all of it, once skopeo was told to finish that."""
        ...

    def said(self) -> str:
        """Return what skopeo has said on standard error since the question began."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a registry has under a name.

    Attributes:
        top: digest of the manifest or index itself; empty where it is an index that skopeo does not tell more about.
        instance: digest of the manifest for this machine; empty if it was not asked for.
        manifest: that manifest, in OCI's form.
    """

    top: str
    instance: str = ""
    manifest: bytes = b""


def read_reply(packet: bytes, *, with_pipe: bool) -> Reply:
    """Return what a packet says.

    Args:
        packet: as it came.
        with_pipe: a pipe has come with it.

    Raises:
        RefusedError: skopeo could not do it.
        OddProxyError: it is no reply.
    """
    try:
        found = parse_object(packet)
    except ValueError as error:
        raise OddProxyError(f"it answers no JSON ({error})") from None
    success, words, pipe = found.get("success"), found.get("error", ""), found.get("pipeid", 0)
    if not isinstance(success, bool) or not isinstance(words, str) or type(pipe) is not int or pipe < 0:
        raise OddProxyError("it answers something else than replies")
    if not success:
        raise RefusedError(words)
    if with_pipe is not bool(pipe):
        raise OddProxyError("it promises a pipe and sends none, or the other way round")
    return Reply(found.get("value"), pipe)


async def greet(connection: Connection) -> int:
    """Begin a conversation, and return the last number of the protocol's version.

    Raises:
        OddProxyError: it speaks another language.
    """
    try:
        version = (await connection.call(Request("Initialize"))).value
    except RefusedError as error:
        raise OddProxyError(f"it cannot begin: {readable(str(error), _WORDS_LIMIT)}") from error
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if found is None:
        raise OddProxyError(f"it speaks another version of the protocol: {version!r:.40}")
    return int(found[1])


async def ask_manifest(connection: Connection, reference: Reference) -> Found:
    """Ask for the manifest for this machine, and what it was found by.

    One request to a registry, two for an index. skopeo gives the index itself to nobody; of one that was asked for by
    its digest, which skopeo compares, the digest is known.

    Raises:
        RefusedError: the registry has not given it, in the words of any other call of skopeo.
        UnansweredError: it is of a kind that the proxy does not give out.
        OddProxyError: see there.
    """
    image = await _opened(connection, reference)
    kind = _kind(connection.said())
    try:
        digest = (await connection.call(Request("GetManifest", (image,), quick=False))).value
        manifest = await connection.content()
    except RefusedError as error:
        # `inspect` would have taken it. A registry's words are not passed on: nobody masks them here.
        raise UnansweredError("it does not give this manifest out") from error
    finally:
        await _close(connection, image)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise OddProxyError("it gives a digest that is none")
    if reference.digest:
        return Found(reference.digest, digest, manifest)
    if kind not in (*_INDEXES, *_MANIFESTS):
        raise UnansweredError("the kind of the manifest is not known")
    return Found(digest if kind in _MANIFESTS else "", digest, manifest)


async def ask_digest(connection: Connection, reference: Reference, lookaside: Path) -> Found:
    """Ask for the digest of what a tag names, be it a manifest or an index, by one request to a registry.

    The proxy was started with a policy that wants a signature, and with a place for signatures where there are none: it
    tells which file it has looked for, and the file's name holds the digest. Nothing can come of such an opening but
    this digest.

    Args:
        connection: to a proxy of `VERSION_WITH_POLICY` at least.
        reference: by tag: skopeo believes a digest that it is given here.
        lookaside: the place for signatures.

    Raises:
        RefusedError: the registry has not given it, in the words of any other call of skopeo.
        UnansweredError: skopeo has not looked there.
        OddProxyError: see there.
    """
    try:
        image = await _opened(connection, reference)
    except RefusedError as error:
        if _UNSIGNED not in str(error):
            raise
    else:
        await _close(connection, image)
        raise UnansweredError("no signature was asked for")
    looked = (
        rf'^time="[^"]{{1,64}}" level=debug msg="Reading {re.escape(str(lookaside))}/[\w./-]+@sha256=([0-9a-f]{{64}})/'
    )
    found = re.findall(rf'{looked}signature-1"$', connection.said(), re.MULTILINE)
    if not found:
        raise UnansweredError("it does not tell where it has looked for signatures")
    return Found(f"sha256:{found[-1]}")


async def _opened(connection: Connection, reference: Reference) -> int:
    image = (await connection.call(Request("OpenImage", (f"docker://{reference}",), quick=False))).value
    if type(image) is not int or image <= 0:
        raise OddProxyError("it opens an image and does not tell which")
    return image


async def _close(connection: Connection, image: int) -> None:
    try:
        await connection.call(Request("CloseImage", (image,)))
    except RefusedError as error:
        raise OddProxyError("it cannot close an image") from error


def _kind(said: str) -> str:
    # Of several mirrors the last one has answered.
    found = _TYPE.findall(said)
    return found[-1].partition(";")[0].strip().lower() if found else ""
