"""ImageStatus on real engines (docker S1-S10, C2-C6)."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from criimage.backend import User
from criimage.errors import InvalidRequest
from criimage.testing.oci import Config, image, index, layer
from parts.docker_backend import docker_backend, following, pull, status
from parts.engine import Kind

if TYPE_CHECKING:
    from criimage.testing.oci import Image
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

# Rows of S6: what is asked, and whether the image is found. R, D and ID stand for its repository, digest and ID's
# digits.
ASKED = {
    "busybox:latest": True,
    "docker.io/library/busybox:latest": True,
    "docker.io/busybox": True,
    "index.docker.io/library/busybox": True,
    "library/busybox": True,
    "busybox": True,
    "R@D": True,
    "R:1@D": True,
    "R:WRONG@D": True,
    "foo/bar": False,
    "other/repo@D": False,
    "other/repo@sha256:ID": False,
    # dockershim finds none of these but the short ID.
    "sha256:ID": True,
    "ID": True,
    "SHORT": True,
    "sha256:SHORT": True,
    "sha256:" + "0" * 64: False,
    "0" * 64: False,
    "not-there:1": False,
}


async def test_every_way_to_ask(docker: Engine, hub: Registry) -> None:
    """S1, S3-S6: tag, digest, ID and short ID find the image, all with equal answers; what is absent is no error."""
    made = image(layer({"for": b"every way"}), config=Config(user="1000"))
    name = hub.push(made, "status/ways", "1")
    async with docker_backend(docker.host, cache=False) as backend:
        pulled = await pull(backend, name)
        for other in ("busybox:latest", "foo/bar:1", "foo/bar:2"):
            docker.tag(name, *other.split(":"))
        (whole,) = await backend.images()
        texts = {"R": name.removesuffix(":1"), "D": made.digest, "SHORT": pulled.id.hex[:12], "ID": pulled.id.hex}
        answers = {}
        for asked in ASKED:
            text = asked
            for key in ("SHORT", "ID", "D", "R"):
                text = text.replace(key, texts[key]) if key != "D" or "@D" in text else text
            answers[asked] = await status(backend, text.replace("W" + texts["R"] + "ONG", "WRONG"))

    assert {key: answer is not None for key, answer in answers.items()} == ASKED
    assert {answer for answer in answers.values() if answer is not None} == {answers["busybox"]}
    assert answers["busybox"] is not None
    assert answers["busybox"].image == whole


def two_that_share_a_prefix(*, manifests: bool) -> tuple[Image, Image]:
    """Two images whose IDs begin with the same three digits."""
    seen: dict[str, Image] = {}
    for number in itertools.count():
        made = image(layer({"number": str(number).encode()}))
        # The containerd store's ID is the manifest's digest.
        prefix = (made.digest if manifests else made.id)[:10]
        if prefix in seen:
            return seen[prefix], made
        seen[prefix] = made
    raise AssertionError


async def test_an_ambiguous_prefix_finds_nothing(docker: Engine, hub: Registry) -> None:
    """S6: a short ID that two images share finds neither."""
    async with docker_backend(docker.host) as backend:
        one, two = two_that_share_a_prefix(manifests=docker.kind.containerd_store)
        first = await pull(backend, hub.push(one, "ambiguous/one"))
        second = await pull(backend, hub.push(two, "ambiguous/two"))
        shared = await status(backend, first.id.hex[:3])
        own = await status(backend, second.id.hex[:12])

    assert first.id.hex[:3] == second.id.hex[:3]
    assert shared is None
    assert own is not None
    assert own.image == second


@pytest.mark.parametrize("text", ["UPPER", "foo bar", "a:b:c", "<none>:<none>", "x" * 300])
async def test_what_can_be_no_name_is_refused(docker: Engine, text: str) -> None:
    """S6, S2: what the grammar does not accept is the caller's fault, and reaches no engine."""
    async with docker_backend(docker.host) as backend:
        with pytest.raises(InvalidRequest):
            await status(backend, text)


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", None),
        ("0", User(uid=0)),
        ("1000", User(uid=1000)),
        ("1000:100", User(uid=1000)),
        ("nobody:nogroup", User(name="nobody")),
        (":5", None),
    ],
)
async def test_the_user(docker: Engine, hub: Registry, text: str, user: User | None) -> None:
    """C2, C4: a number is a user ID, 0 included, a word a name, and what follows the colon is a group."""
    made = image(layer({"user": text.encode()}), config=Config(user=text))
    async with docker_backend(docker.host) as backend:
        pulled = await pull(backend, hub.push(made, "status/user", "1"))
        found = await status(backend, str(pulled.id))
        again = await status(backend, str(pulled.id))

    assert found is not None
    assert found.user == user
    assert again == found


async def test_verbose_tells_labels_and_config(docker: Engine, hub: Registry) -> None:
    """S7, S9, S10: labels verbatim under their own keys, and the `info` object; nothing unless asked for."""
    labels = {"maintainer": "somebody", "json": '{"a": 1}', "empty": ""}
    dangerous = {"status": "overwrites", "info": "hides", "broken": "{not json"}
    config = Config(user="7", labels=labels | dangerous, env=("A=b",), cmd=("run",))
    made = image(layer({"for": b"verbose"}), config=config)
    async with docker_backend(docker.host) as backend:
        name = hub.push(made, "status/verbose", "1")
        await pull(backend, name)
        quiet = await status(backend, name)
        found = await status(backend, name, verbose=True)

    assert quiet is not None
    assert quiet.info == {}
    assert found is not None
    info = dict(found.info)
    document = json.loads(info.pop("info"))
    # S8: what would break crictl stands in the object only.
    assert info == labels
    assert document["labels"] == labels | dangerous
    spec = document["imageSpec"]
    assert spec["config"]["User"] == "7"
    assert spec["config"]["Cmd"] == ["run"]
    assert "A=b" in spec["config"]["Env"]
    assert (spec["os"], spec["architecture"]) == ("linux", "amd64")
    assert spec["rootfs"] == {"type": "layers", "diff_ids": [one.diff_id for one in made.layers]}
    assert [step["created_by"] for step in spec["history"]] == ["criimage.testing.oci"]


async def test_verbose_without_labels(docker: Engine, hub: Registry) -> None:
    """S7, S9: no labels, no keys of theirs."""
    async with docker_backend(docker.host) as backend:
        name = hub.push(image(layer({"for": b"no labels"})), "status/plain", "1")
        await pull(backend, name)
        found = await status(backend, name, verbose=True)

    assert found is not None
    assert list(found.info) == ["info"]
    assert "labels" not in json.loads(found.info["info"])


async def test_list_and_status_agree(docker: Engine, hub: Registry) -> None:
    """C1-C3: size and names are those of the list; the containerd store's inspect would tell another size."""
    made = image(layer({"data": bytes(50_000)}), config=Config(user="5"))
    async with docker_backend(docker.host) as backend:
        name = hub.push(made, "status/agree", "1", "2")
        await pull(backend, name)
        await pull(backend, f"{name[:-1]}2")
        (entry,) = await backend.images()
        found = await status(backend, name)

    assert found is not None
    assert found.image == entry
    assert entry.size >= 50_000


async def test_an_index_is_found_by_its_digest(docker: Engine, hub: Registry) -> None:
    """C1: pulled through an index, the image has the index's digest; the engine does not keep the instance's."""
    mine, other = (
        image(layer({"for": kind.encode()}), config=Config(architecture=kind)) for kind in ("amd64", "s390x")
    )
    both = index(mine, other)
    name = hub.push(both, "status/multi", "m")
    async with docker_backend(docker.host) as backend:
        pulled = await pull(backend, name)
        by_index = await status(backend, f"{name.removesuffix(':m')}@{both.digest}")

    assert [digest.digest for digest in pulled.digests] == [both.digest]
    assert by_index is not None
    assert by_index.image == pulled


async def test_what_is_known_costs_no_request(docker: Engine, hub: Registry) -> None:
    """Freshness: while nothing changes, the second status asks the engine nothing."""
    async with docker_backend(docker.host) as backend:
        name = hub.push(image(layer({"for": b"no request"})), "status/known", "1")
        await pull(backend, name)
        await following(backend)
        first = await status(backend, name)
        if docker.kind is Kind.DEBIAN13_CONTAINERD:
            # Its prune tells nobody: "present" is asked for each time (issue 10.2).
            docker.prune()
            second = await status(backend, name)
            assert second is None
            return
        with docker.frozen():
            second = await status(backend, name)

    assert first is not None
    assert second == first


async def test_removed_by_somebody_else_in_between(docker: Engine, hub: Registry) -> None:
    """S1: an image that is listed, and gone when its details are asked for, is absent."""
    async with docker_backend(docker.host) as backend:
        name = hub.push(image(layer({"for": b"in between"})), "status/between", "1")
        await pull(backend, name)
        await following(backend)
        await backend.images()
        # What the pull has learned; then a status asks for nothing on a graph driver.
        backend._facts._kept.clear()
        # No turn of the event loop from here on: the event cannot have been seen.
        docker.delete(name)
        found = await status(backend, name)

    assert found is None
