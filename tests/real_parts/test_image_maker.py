"""Images made by criimage.testing.oci, as a real registry and real tools see them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from criimage.testing.oci import Config, File, Link, image, index, layer, machine_architecture, noise_layer
from criimage.testing.registry_client import RegistryClient, RegistryError
from parts.registry import Registry, registry
from parts.store import Store, store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def local() -> Iterator[Registry]:
    with registry() as running:
        yield running


@pytest.fixture
def empty_store() -> Iterator[Store]:
    with store() as made:
        yield made


def test_a_layer_is_a_tar_with_folders_modes_and_links() -> None:
    made = layer({"bin/busybox": File(b"program", 0o755, uid=3), "bin/sh": Link("busybox"), "etc/motd": b"hello\n"})
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(made.data))) as tar:
        members = {member.name: member for member in tar.getmembers()}
        motd = tar.extractfile("etc/motd")
        assert motd
        assert motd.read() == b"hello\n"
    assert sorted(members) == ["bin", "bin/busybox", "bin/sh", "etc", "etc/motd"]
    assert members["bin"].isdir()
    assert members["bin/busybox"].mode == 0o755
    assert members["bin/busybox"].uid == 3
    assert members["bin/sh"].linkname == "busybox"


def test_digests_are_those_of_the_bytes_and_the_same_every_time() -> None:
    made = layer({"a/b": b"1"})
    unpacked = gzip.decompress(made.data)
    assert made == layer({"a/b": b"1"})
    assert made.digest == f"sha256:{hashlib.sha256(made.data).hexdigest()}"
    assert made.diff_id == f"sha256:{hashlib.sha256(unpacked).hexdigest()}"
    assert made.unpacked_size == len(unpacked)
    assert image(made).digest == image(made).digest
    assert image(made).id != image(made, config=Config(user="1")).id


def test_noise_does_not_compress_and_differs_by_seed() -> None:
    assert len(noise_layer(100_000).data) > 100_000
    assert noise_layer(1000, seed="a") != noise_layer(1000, seed="b")


@pytest.mark.engine
@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_skopeo_reads_what_was_written(local: Registry, docker: bool) -> None:
    config = Config(user="1002:3", env=("A=1",), cmd=("sh", "-c"), labels={"team": "blue"})
    made = image(layer({"a": b"1"}), noise_layer(5000), config=config, docker=docker)
    repository = "written/docker" if docker else "written/oci"
    name = local.push(made, repository, "one", "two")
    document: dict[str, Any] = json.loads(_inspect(name, "--config"))
    assert document["config"] == {"User": "1002:3", "Env": ["A=1"], "Cmd": ["sh", "-c"], "Labels": {"team": "blue"}}
    assert document["architecture"] == machine_architecture()
    assert _inspect(name, "--raw").encode() == made.manifest.data
    assert _inspect(name, "--format", "{{.Digest}}").strip() == made.digest
    assert local.client.tags(repository) == ("one", "two")


@pytest.mark.engine
def test_annotations_change_the_digest_and_not_the_id(local: Registry) -> None:
    plain = image(layer({"a": b"1"}))
    noted = image(layer({"a": b"1"}), annotations={"note": "x"})
    assert plain.id == noted.id
    assert plain.digest != noted.digest
    name = local.push(noted, "noted")
    assert json.loads(_inspect(name, "--raw"))["annotations"] == {"note": "x"}


@pytest.mark.engine
@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_an_index_gives_every_platform_its_own_image(local: Registry, docker: bool) -> None:
    here = image(layer({"here": b""}), docker=docker)
    there = image(layer({"there": b""}), config=Config(architecture="s390x"), docker=docker)
    both = index(there, here, docker=docker)
    repository = "both/docker" if docker else "both/oci"
    name = local.push(both, repository)
    assert local.client.digest(repository, "latest") == both.digest
    assert _id(name) == here.id
    assert _id(name, "--override-arch", "s390x") == there.id


@pytest.mark.engine
def test_a_store_names_the_image_by_its_id(local: Registry, empty_store: Store) -> None:
    made = image(layer({"a": b"1"}), noise_layer(5000))
    name = local.push(made, "stored")
    empty_store.pull(name)
    assert empty_store.images() == {made.id.removeprefix("sha256:"): (name,)}
    assert len(empty_store.layers()) == len(empty_store.layer_folders()) == 2


@pytest.mark.engine
def test_layers_are_sent_once(local: Registry) -> None:
    shared = noise_layer(1000, seed="sent once")
    local.push(image(shared), "once", "1")
    before = len(local.requests())
    local.push(image(shared, config=Config(user="5")), "once", "2")
    uploads = [line for line in local.requests()[before:] if line.startswith("POST")]
    assert len(uploads) == 1, "only the config is new"


@pytest.mark.engine
def test_a_deleted_image_is_gone_and_an_unknown_one_was_never_there(local: Registry) -> None:
    made = image(layer({"a": b"deleted"}))
    local.push(made, "deleted")
    local.client.delete("deleted", made.digest)
    assert local.client.digest("deleted", "latest") is None
    assert local.client.tags("never") == ()


@pytest.mark.engine
def test_a_registry_with_passwords_and_a_certificate() -> None:
    word = "open sesame"
    with registry(username="anna", password=word, tls=True) as private:
        name = private.push(image(layer({"a": b"1"})), "private")
        assert private.ca_folder
        trusted = ["skopeo", "inspect", "--cert-dir", str(private.ca_folder), f"docker://{name}"]
        refused = subprocess.run(trusted, capture_output=True, text=True, check=False)
        assert "authentication required" in refused.stderr
        subprocess.run([*trusted, "--creds", f"anna:{word}"], capture_output=True, check=True)
        stranger = RegistryClient(private.address, "anna", "wrong", private.client.tls)
        with pytest.raises(RegistryError) as error:
            stranger.push(image(layer({"a": b"2"})), "private")
        assert error.value.status == 401
        assert word not in repr(private)


def _inspect(name: str, *arguments: str) -> str:
    command = ["skopeo", "inspect", "--tls-verify=false", *arguments, f"docker://{name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _id(name: str, *arguments: str) -> str:
    command = ["skopeo", *arguments, "inspect", "--tls-verify=false", "--config", "--raw", f"docker://{name}"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
