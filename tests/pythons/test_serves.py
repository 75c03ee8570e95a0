"""The shortest whole life of a server: what is looked at first on a Python it has not seen."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from criimage.cri.runtime.v1 import ImageSpec, ListImagesResponse, PullImageRequest
from criimage.testing.certificates import Certificates
from parts.criimage_process import criimage
from parts.missing import need
from parts.raw_client import raw_client
from parts.serving import serving

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_pull_on_memory_and_its_list(tmp_path: Path) -> None:
    """What was pulled is listed, over a real socket."""
    request = bytes(PullImageRequest(image=ImageSpec(image="example.com/a:1")))
    async with serving(tmp_path) as server, raw_client(server.path) as client:
        pulled = await client.call("/runtime.v1.ImageService/PullImage", request)
        listed = await client.call("/runtime.v1.ImageService/ListImages")
    assert (pulled.status, listed.status) == (0, 0)
    (message,) = listed.messages
    assert [image.repo_tags for image in ListImagesResponse().parse(message).images] == [["example.com/a:1"]]


def test_the_command_serves_and_ends() -> None:
    """`criimage serve` of this installation comes up, says so, and ends on SIGTERM in its time."""
    with criimage('backend = "memory"') as server:
        server.stop()
        assert "serving" in server.log_text()


def test_its_certificates_pass_the_strictest_look(tmp_path: Path) -> None:
    """RFC 5280 as Python 3.13 asks for by default: also where an older one would have to be told."""
    need("openssl")
    made = Certificates.make(tmp_path)
    trusting = ssl.create_default_context(cafile=str(made.ca_folder / "ca.crt"))
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = (ssl.MemoryBIO(), ssl.MemoryBIO())
    server = made.server_context().wrap_bio(to_server, to_client, server_side=True)
    client = trusting.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    sides = [client, server]
    for _ in range(10):
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
    assert not sides
    assert client.getpeercert()
