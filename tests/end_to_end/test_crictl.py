"""What a node's operator types, with the crictl that operators have, against a running criimage on a real store."""

from __future__ import annotations

import hashlib
import json
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from criimage import __version__
from criimage.testing.oci import Config, image, index, layer
from parts.clients import crictl
from parts.criimage_process import Criimage, criimage, store_config
from parts.missing import need, need_root
from parts.registry import Registry, registry
from parts.store import Store, insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Node:
    """A registry, a store, a server on it, and crictl in front.

    Attributes:
        images: the registry.
        store: what the server serves.
        server: running.
    """

    images: Registry
    store: Store
    server: Criimage

    def try_crictl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run crictl and return how it ended."""
        command = [str(crictl()), "--config=/dev/null", f"--runtime-endpoint={self.server.endpoint}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def crictl(self, *arguments: str) -> str:
        """Run crictl, which must succeed, and return what it prints."""
        done = self.try_crictl(*arguments)
        assert done.returncode == 0, f"crictl {arguments}: {done.stderr}\n{self.server.log_text()[-3000:]}"
        return done.stdout

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever crictl prints
        """Run crictl, which must succeed, and return the JSON it prints."""
        command, *rest = arguments
        return json.loads(self.crictl(command, "--output=json", *rest))


@contextmanager
def a_node(username: str = "", password: str = "") -> Iterator[Node]:
    need("skopeo", "docker-registry")
    need_root()
    with (
        registry(username=username, password=password) as images,
        store(registries=insecure_registries(images.address)) as place,
        criimage(store_config(place)) as server,
    ):
        yield Node(images, place, server)


def an_image(text: str = "one") -> Any:  # noqa: ANN401 - criimage.testing.oci.Image
    return image(layer({"text": text.encode()}), config=Config(user="1000:50", labels={"for": text}))


def test_version_and_info() -> None:
    """`crictl version` and `crictl info` work, and the node counts as ready (cri-protocol 1.4)."""
    with a_node() as node:
        version = node.crictl("version")
        info = node.json("info")

    assert [line.split()[-1] for line in version.splitlines()] == ["0.1.0", "criimage", __version__, "v1"]
    conditions = {condition["type"]: condition["status"] for condition in info["status"]["conditions"]}
    assert conditions == {"RuntimeReady": True, "NetworkReady": True}
    assert info["config"]["backend"] == "containers-storage"


def test_pull_list_inspect_remove() -> None:
    """An image pulled by tag is listed, found by every form of its name, and gone after its removal."""
    with a_node() as node:
        made = an_image()
        name = node.images.push(made, "team/app", "1.0")
        repository = name.rpartition(":")[0]
        digest = f"{repository}@{made.digest}"
        bare_id = made.id.removeprefix("sha256:")

        pulled = node.crictl("pull", name)
        listed = node.json("images")["images"]
        found = [node.json("inspecti", form)["status"] for form in (name, digest, bare_id, made.id, bare_id[:12])]
        info = node.json("inspecti", name)["info"]
        removed = node.crictl("rmi", name)
        after = node.json("images")["images"]

    assert bare_id in pulled
    assert [entry["id"] for entry in listed] == [bare_id]
    assert listed[0]["repoTags"] == [name]
    assert listed[0]["repoDigests"] == [digest]
    assert int(listed[0]["size"]) > 0
    assert all(status == found[0] for status in found)
    assert found[0]["uid"] == {"value": "1000"}
    assert info["labels"] == {"for": "one"}
    assert info["imageSpec"]["config"]["User"] == "1000:50"
    assert name in removed
    assert after == []


def test_what_was_pulled_is_what_skopeo_finds() -> None:
    """Skopeo reads the same manifest out of the store that the registry has."""
    with a_node() as node:
        made = an_image()
        name = node.images.push(made, "team/app", "1.0")
        node.crictl("pull", name)
        raw = node.store.skopeo("inspect", "--raw", node.store.reference(name)).stdout

    assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == made.digest


def test_no_tag_means_latest() -> None:
    """A name without a tag is pulled, listed and found as `:latest` (cri-o N3)."""
    with a_node() as node:
        repository = node.images.push(an_image(), "team/app", "latest").rpartition(":")[0]
        node.crictl("pull", repository)
        listed = node.json("images")["images"]
        found = node.json("inspecti", repository)["status"]

    assert listed[0]["repoTags"] == found["repoTags"] == [f"{repository}:latest"]


def test_digest_and_tag_with_digest() -> None:
    """Pulled by digest, also with a tag before it, an image has that digest and no tag (cri-o N4, P12)."""
    with a_node() as node:
        made = an_image()
        name = node.images.push(made, "team/app", "1.0")
        digest = f"{name.rpartition(':')[0]}@{made.digest}"
        node.crictl("pull", f"{name}@{made.digest}")
        by_both = node.json("images")["images"]
        node.crictl("pull", digest)
        by_digest = node.json("images")["images"]

    assert by_both == by_digest
    assert by_both[0]["repoTags"] == []
    assert by_both[0]["repoDigests"] == [digest]


def test_multi_architecture() -> None:
    """Of an index this machine's instance is stored; both digests find it, the index first (design section 4)."""
    with a_node() as node:
        mine = image(layer({"for": b"amd64"}), config=Config(architecture="amd64"))
        other = image(layer({"for": b"s390x"}), config=Config(architecture="s390x"))
        both = index(mine, other)
        name = node.images.push(both, "team/app", "multi")
        repository = name.rpartition(":")[0]
        node.crictl("pull", name)
        listed = node.json("images")["images"]
        found = [node.json("inspecti", f"{repository}@{made.digest}")["status"]["id"] for made in (both, mine)]
        missing = node.try_crictl("inspecti", f"{repository}@{other.digest}")

    assert listed[0]["repoDigests"] == [f"{repository}@{both.digest}", f"{repository}@{mine.digest}"]
    assert found == [listed[0]["id"]] * 2
    assert missing.returncode != 0


def test_private_registry() -> None:
    """Right credentials pull; wrong or no ones do not, not even when the image is here already (cri-protocol 2.5)."""
    with a_node("reader", "s3cret-canary") as node:
        name = node.images.push(an_image(), "team/private", "1.0")
        refused = [
            node.try_crictl("pull", name),
            node.try_crictl("pull", "--creds=reader:wrong", name),
        ]
        node.crictl("pull", "--creds=reader:s3cret-canary", name)
        node.crictl("pull", "--auth=cmVhZGVyOnMzY3JldC1jYW5hcnk=", name)
        refused.append(node.try_crictl("pull", name))
        node.server.stop()
        log = node.server.log_text()

    for done in refused:
        assert done.returncode != 0
        assert "unauthorized" in done.stderr.lower()
    assert "s3cret-canary" not in log
    assert "cmVhZGVyOnMzY3JldC1jYW5hcnk" not in log


def test_file_system_usage() -> None:
    """`crictl imagefsinfo` names an existing mountpoint and true bytes in both lists (cri-protocol 2.8)."""
    with a_node() as node:
        node.crictl("pull", node.images.push(an_image(), "team/app", "1.0"))
        usage = node.json("imagefsinfo")["status"]
        images, containers = usage["imageFilesystems"], usage["containerFilesystems"]

        assert node.store.root.joinpath(images[0]["fsId"]["mountpoint"]).is_dir()
    assert int(images[0]["usedBytes"]["value"]) > 0
    assert int(images[0]["timestamp"]) > 0
    assert len(containers) == 1


def test_removing_one_name_removes_the_image() -> None:
    """`crictl rmi TAG` removes the image with its other names too (design section 4, RemoveImage)."""
    with a_node() as node:
        made = an_image()
        for tag in ("1", "2"):
            node.crictl("pull", node.images.push(made, "team/app", tag))
        before = node.json("images")["images"]
        node.crictl("rmi", before[0]["repoTags"][0])
        after = node.json("images")["images"]

    assert len(before[0]["repoTags"]) == 2
    assert after == []


def test_failures_say_what_happened() -> None:
    """A missing image, a bad name and a registry that is down each give one clear line (design section 4)."""
    with a_node() as node:
        missing = node.try_crictl("pull", f"{node.images.address}/team/nothing:1")
        bad = node.try_crictl("pull", f"{node.images.address}/Team:1")
        down = node.try_crictl("pull", "127.0.0.1:1/team/app:1")

    assert "manifest unknown" in missing.stderr
    assert "must be lowercase" in bad.stderr
    assert "RegistryUnavailable: " in down.stderr
