"""The parts themselves: they start, they say why they do not, and they leave nothing behind."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from criimage.testing.oci import image, layer
from parts import missing
from parts.child import StartError, child
from parts.clients import crictl, critest
from parts.containerd import containerd
from parts.critest_images import push_all, registries_conf
from parts.pods import container
from parts.registry import registry
from parts.store import store


@pytest.mark.engine
def test_a_registry_leaves_neither_process_nor_folder() -> None:
    with registry() as running:
        pass
    assert not running.folder.exists()
    assert not Path(f"/proc/{running.process.pid}").exists()


@pytest.mark.engine
def test_a_taken_port_is_an_error_with_the_registrys_own_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError, match="address already in use"):  # noqa: SIM117
        with registry(port=taken.getsockname()[1]):
            pass


@pytest.mark.engine
@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_a_store_leaves_neither_mount_nor_folder(driver: str) -> None:
    with registry() as running, store(driver=driver) as made:
        name = running.push(image(layer({"a": b"1"})), "one")
        made.pull(name)
        container = made.hold(name)
        assert made.command("delete-image", name, check=False).returncode != 0
        made.release(container)
        assert made.layer_folders()
    assert not made.folder.exists()
    assert str(made.folder) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.engine
def test_a_store_is_cleaned_up_after_a_failing_test() -> None:
    with registry() as running, pytest.raises(ValueError, match="the test's own"), store() as made:  # noqa: PT012
        made.pull(running.push(image(layer({"a": b"1"})), "one"))
        raise ValueError("the test's own")
    assert not made.folder.exists()


@pytest.mark.engine
def test_critests_names_lead_to_the_local_registry() -> None:
    with registry() as running, store() as made:
        images = push_all(running)
        made.write_registries(registries_conf(running.address))
        asked = ["gcr.io/k8s-staging-cri-tools/test-image-tags:2", "registry.k8s.io/pause:3.9", "k8s.gcr.io/pause:3.9"]
        for name in asked:
            made.pull(name)
        stored = {name: identity for identity, names in made.images().items() for name in names}
        assert stored == {name: images[name].id.removeprefix("sha256:") for name in asked}
        assert (
            images["gcr.io/k8s-staging-cri-tools/test-image-tag:test"]
            != images["gcr.io/k8s-staging-cri-tools/test-image-tag:all"]
        )


@pytest.mark.engine
def test_the_clients_run_and_know_their_version() -> None:
    for client, flag in ((crictl(), "--version"), (critest(), "-version")):
        answer = subprocess.run([client, flag], capture_output=True, text=True, check=True)
        assert "1.36.0" in answer.stdout


def test_a_child_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with child("brief", command, tmp_path / "log") as brief, pytest.raises(StartError, match="no such thing"):
        brief.wait_until(lambda: False, seconds=20)


def test_a_child_takes_its_own_children_along(tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 600 & echo $!; wait"]
    with child("parent", command, tmp_path / "log") as parent:
        parent.wait_until(lambda: parent.log_text().endswith("\n"), seconds=20)
        grandchild = Path("/proc") / parent.log_text().strip()
        assert grandchild.exists()

    # The kernel may take a moment to carry out the kill.
    end = time.monotonic() + 20
    while _runs(grandchild):
        assert time.monotonic() < end, "the grandchild goes on"
        time.sleep(0.01)


def _runs(process: Path) -> bool:
    try:
        # Where nobody collects orphans, a killed one stays listed as a zombie.
        return ") Z " not in (process / "stat").read_text()
    except OSError:
        return False


def test_a_missing_part_skips_on_a_laptop_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no-such-command"):
        missing.need("no-such-command")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-command"):
        missing.need("no-such-command")
    with pytest.raises(pytest.skip.Exception):
        missing.lacking("something that CI lacks too", also_in_ci=False)


@pytest.mark.engine
def test_a_containerd_has_pods_that_outlive_it_and_leaves_nothing() -> None:
    """Its own data and pods are there after a kill and a start; when the block ends, no process and no folder is."""
    missing.need("busybox")
    with registry() as images:
        push_all(images, busybox=Path(shutil.which("busybox") or "").read_bytes())
        pause = f"{images.address}/pause:3.9"
        with containerd(sandbox_image=pause) as running, container(running.endpoint, pause):
            before = running.ctr("tasks", "ls").splitlines()[1:]
            running.kill()
            running.start()
            after = running.ctr("tasks", "ls").splitlines()[1:]
            (pod,) = [line.split()[0] for line in after]
            cgroups = _cgroups(pod)
    assert before == after
    assert cgroups
    assert not _cgroups(pod)
    assert not running.folder.exists()


def _cgroups(name: str) -> list[Path]:
    return [path for tree in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{tree}k8s.io/{name}")]
