"""No text of a client reaches the engine's URL unless the grammar of names accepts it (docker G7)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from criimage.catalogue import qualified
from criimage.cri.runtime import v1
from criimage.errors import InvalidRequest
from criimage.reference import Lookup, Name, Pattern
from criimage.testing.oci import image, layer
from criimage_docker.engine.names import familiar_filter, familiar_repository
from parts.criimage_process import criimage

if TYPE_CHECKING:
    from parts.engine import Engine
    from parts.registry import Registry

VICTIM = "victim"

ATTACKS = (
    f"../containers/{VICTIM}",
    f"x/../../containers/{VICTIM}",
    f"..%2fcontainers%2f{VICTIM}",
    f"%2e%2e/containers/{VICTIM}",
    f"..\\containers\\{VICTIM}",
    f"./../containers/{VICTIM}",
    f"/../containers/{VICTIM}",
    f"//containers/{VICTIM}",
    f"..//containers/{VICTIM}",
    f"a:1/../../containers/{VICTIM}",
    f"localhost/../containers/{VICTIM}",
    f"../containers/{VICTIM}@sha256:{'0' * 64}",
    f"../containers/{VICTIM}?force=1#",
    f"busybox?x=/../../containers/{VICTIM}",
    f"busybox#/../../containers/{VICTIM}",
    f"busybox\r\nDELETE /containers/{VICTIM}?force=1 HTTP/1.1\r\n\r\n",
    f"busybox\0/../containers/{VICTIM}",
    f"http://engine/containers/{VICTIM}",
    "..",
    "../..",
    ".",
    "/",
    "prune",
    "json",
    "busybox/json",
    "get?names=busybox",
)


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_a_client_cannot_reach_a_container(docker: Engine, hub: Registry) -> None:
    """G7: with aiodocker alone, `../containers/x` deletes a container; through the service nothing of it is touched."""
    name = hub.push(image(layer({"for": b"victim"})), "security/victim", "1")
    docker.pull(name.removesuffix(":1"), "1")
    docker.hold(name, VICTIM)
    before = docker.images()
    config = f'backend = "docker"\n[backends.docker]\nhost = {json.dumps(docker.host)}\n'
    found: dict[str, list[str]] = {}
    with criimage(config) as server, grpc.insecure_channel(server.endpoint) as channel:

        def call(method: str, request: bytes) -> str:
            try:
                send = channel.unary_unary(f"/runtime.v1.ImageService/{method}", bytes, bytes)
                send(request, timeout=60)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        for attack in ATTACKS:
            spec = v1.ImageSpec(image=attack)
            found[attack] = [
                call("ImageStatus", bytes(v1.ImageStatusRequest(image=spec, verbose=True))),
                call("RemoveImage", bytes(v1.RemoveImageRequest(image=spec))),
                call("ListImages", bytes(v1.ListImagesRequest(filter=v1.ImageFilter(image=spec)))),
            ]

    # Words that are names are asked for as such, and are nobody's.
    harmless = {"prune", "json", "busybox/json"}
    for attack, codes in found.items():
        wanted = "OK" if attack in harmless else "INVALID_ARGUMENT"
        assert codes[:2] == [wanted] * 2, attack
        assert codes[2] in {wanted, "OK"} if "?" in attack else codes[2] == wanted, attack
    assert docker.containers() == [VICTIM]
    assert [one["RepoTags"] for one in docker.images()] == [one["RepoTags"] for one in before]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.from_regex(r"[./a-z:@%?#\\]{1,40}"))
def test_only_harmless_characters_get_through(text: str) -> None:
    """G7: whatever is accepted has no character that ends or splits a path, and no `..` part."""
    for read in (Lookup.parse, Name.parse):
        try:
            value = read(text)
        except InvalidRequest:
            continue
        name = value.name if isinstance(value, Lookup) else value
        if name is not None:
            try:
                reference = qualified(name)
            except InvalidRequest:
                continue
            for path in (str(reference), familiar_repository(reference)):
                assert not set(path) & set("?#%\\ \r\n\0")
                assert not {"", ".", ".."} & set(path.split("/"))


@given(st.text(max_size=80))
def test_a_filter_is_a_parameter_and_no_path(text: str) -> None:
    """G7: a pattern's text goes into JSON inside an escaped parameter; it is printable ASCII without white space."""
    try:
        pattern = Pattern.parse(text)
    except InvalidRequest:
        return
    name = pattern.lookup.name if pattern.lookup is not None else None
    if name is None or name.digest is None:
        sent = familiar_filter(pattern.text, name)
        assert sent.isascii()
        assert sent.isprintable()
