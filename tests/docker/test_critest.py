"""critest's own specs for images, against a running criimage on real engines (peers-observed 1)."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from parts.clients import critest
from parts.criimage_process import criimage
from parts.critest_images import HOSTS, push_all
from parts.critest_run import assert_image_specs_pass
from parts.engine import KINDS, Kind, engine
from parts.forwarder import forwarder
from parts.registry import registry

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def own_address() -> str:
    """One of 127.0.0.0/8 that nobody else is likely to listen on: port 80 of 127.0.0.1 may be somebody's."""
    return f"127.{20 + secrets.randbelow(230)}.{secrets.randbelow(250)}.{2 + secrets.randbelow(248)}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize("cache", ["true", "false"], ids=["cached", "uncached"])
def test_every_image_spec_that_can_run_passes(tmp_path: Path, kind: Kind, cache: str) -> None:
    """Critest's image specs pass, simultaneous removal among them, which cri-dockerd fails.

    Left out are the pods' and the one whose digest cannot be reproduced. The names of public registries lead to a local
    one by a hosts file that only the engine sees; engines speak plain HTTP to 127.0.0.0/8.
    """
    program = critest()
    address = own_address()
    hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {host}\n" for host in HOSTS)
    with (
        registry() as images,
        forwarder(address, 80, images.port),
        # containerd begins with TLS, and goes on without if what answers there speaks plain HTTP.
        forwarder(address, 443, images.port),
        engine(kind, hosts=hosts, options=[f"--insecure-registry={host}" for host in HOSTS]) as docker,
    ):
        push_all(images)
        settings = f'backend = "docker"\n[backends.docker]\nhost = {json.dumps(docker.host)}\ncache = {cache}\n'
        with criimage(settings) as server:
            assert_image_specs_pass(program, server.endpoint, tmp_path)
