"""A running criimage on a real containerd, with the clients that operators and nodes have in front of it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest

from criimage.testing.oci import image, noise_layer
from criimage.testing.scripted_registry import Hang, Stage, scripted_registry
from parts.clients import crictl, critest
from parts.containerd import containerd
from parts.criimage_process import Criimage, criimage
from parts.critest_images import HOSTS
from parts.critest_run import assert_image_specs_pass

if TYPE_CHECKING:
    from pathlib import Path

    from parts.containerd import Containerd
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def config(runtime: Containerd, more: str = "") -> str:
    return f'backend = "cri"\n{more}\n[backends.cri]\nendpoint = {json.dumps(runtime.endpoint)}\n'


def run_crictl(server: Criimage, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(crictl()), "--config=/dev/null", f"--runtime-endpoint={server.endpoint}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def raw_lists(server: Criimage) -> tuple[list[bytes], bytes]:
    """What StreamImages sends, and what a client of v1alpha2 gets for ListImages; Debian's containerd has no stream."""
    with grpc.insecure_channel(server.endpoint) as channel:
        stream = channel.unary_stream("/runtime.v1.ImageService/StreamImages", bytes, bytes)
        unary = channel.unary_unary("/runtime.v1alpha2.ImageService/ListImages", bytes, bytes)
        return list(stream(b"", timeout=30)), bytes(unary(b"", timeout=30))


def test_critests_image_specs_pass(registries: tuple[Registry, Registry], tmp_path: Path) -> None:
    """All of critest's image specs but the pods' and the one whose digest cannot be reproduced (cri-protocol 3.2)."""
    program = critest()
    with (
        containerd(hosts=dict.fromkeys(HOSTS, registries[0].address)) as runtime,
        criimage(config(runtime)) as server,
    ):
        assert_image_specs_pass(program, server.endpoint, tmp_path)


def test_crictl_sees_what_it_has(runtime: Containerd, registries: tuple[Registry, Registry], pause: str) -> None:
    """Pull, list, inspect, usage and removal are containerd's, and `--auth` works as `--creds` does."""
    private = registries[1].push(image(noise_layer(2000, seed=9)), "team/private", "1")
    with criimage(config(runtime)) as server:
        pulled = run_crictl(server, "pull", pause)
        direct = subprocess.run(
            [str(crictl()), "--config=/dev/null", f"--runtime-endpoint={runtime.endpoint}", "images", "-o", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
        listed = json.loads(run_crictl(server, "images", "-o", "json").stdout)["images"]
        inspected = json.loads(run_crictl(server, "inspecti", pause).stdout)
        streamed, old = raw_lists(server)
        usage = json.loads(run_crictl(server, "imagefsinfo", "-o", "json").stdout)["status"]
        refused = [run_crictl(server, "pull", private), run_crictl(server, "pull", "--creds=owner:wrong", private)]
        granted = run_crictl(server, "pull", "--auth=b3duZXI6cmlnaHQ=", private)
        removed = run_crictl(server, "rmi", pause)
        left = json.loads(run_crictl(server, "images", "-o", "json").stdout)["images"]

    assert pulled.returncode == 0, pulled.stderr
    assert [one["id"] for one in listed] == [one["id"] for one in json.loads(direct.stdout)["images"]]
    assert listed[0]["repoTags"] == [pause]
    assert inspected["status"]["id"] == listed[0]["id"]
    assert "imageSpec" in inspected["info"]
    assert len(streamed) == 1
    assert streamed[0] == old
    assert usage["imageFilesystems"]
    assert usage["containerFilesystems"]
    assert all("unauthorized" in one.stderr.lower() or "401" in one.stderr for one in refused)
    assert granted.returncode == 0, granted.stderr
    assert removed.returncode == 0, removed.stderr
    assert [one["repoTags"] for one in left] == [[private]]


def cut_off(runtime: Containerd, name: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Pulls what does not come."""
    with criimage(config(runtime, f'[pulls]\nprogress_timeout = "{seconds}s"')) as server:
        return run_crictl(server, "pull", name)


@pytest.mark.parametrize("stage", [Stage.MANIFEST, Stage.LAYER])
def test_a_registry_that_hangs_is_cut_off(runtime: Containerd, stage: Stage) -> None:
    """By `progress_timeout`, whether at the manifest or at a layer; containerd lets go of the registry."""
    with scripted_registry() as hub:
        name = hub.put(image(noise_layer(3 * 2**20, seed=1)), "team/app", "1")
        hang = hub.script(stage, Hang(after=None if stage is Stage.MANIFEST else 2**20 + 5))
        # On a busy machine containerd may not have come so far within a second.
        limit = 1
        failed = cut_off(runtime, name, limit)
        while not hang.reached and limit < 30:
            limit *= 5
            failed = cut_off(runtime, name, limit)
        hub.wait(lambda: hang.reached and not hub.open(stage))

    assert f"no progress for {limit}s" in failed.stderr
    assert ("while downloading layers" if stage is Stage.LAYER else "registry to answer") in failed.stderr


def test_pods_run_through_the_one_socket(runtime: Containerd, pause: str, tmp_path: Path) -> None:
    """The runtime's calls go to the same runtime without another setting, and an image in use stays."""
    pod = {
        "metadata": {"name": "a", "namespace": "d", "uid": "u"},
        "linux": {"security_context": {"namespace_options": {"network": 2}}},
    }
    (tmp_path / "pod.json").write_text(json.dumps(pod))
    made = {"metadata": {"name": "c"}, "image": {"image": pause}, "command": ["sleep", "600"]}
    (tmp_path / "container.json").write_text(json.dumps(made))
    with criimage(config(runtime)) as server:
        assert run_crictl(server, "pull", pause).returncode == 0
        version = run_crictl(server, "version").stdout
        run = run_crictl(server, "runp", str(tmp_path / "pod.json"))
        pod_id = run.stdout.strip()
        created = run_crictl(server, "create", pod_id, str(tmp_path / "container.json"), str(tmp_path / "pod.json"))
        refused = run_crictl(server, "rmi", pause)
        kept = run_crictl(server, "inspecti", pause)
        gone = [run_crictl(server, "stopp", pod_id), run_crictl(server, "rmp", pod_id)]
        removed = run_crictl(server, "rmi", pause)

    assert "containerd" in version
    assert created.returncode == 0, run.stderr + created.stderr
    assert "image used by container" in refused.stderr
    assert kept.returncode == 0
    assert all(one.returncode == 0 for one in gone)
    assert removed.returncode == 0, removed.stderr
