"""dockershim's docker_image.go, function by function: what this backend does the same, and where it differs and why.

Asked as kubelets of that time ask, over `runtime.v1alpha2`, whose messages are those of v1 on the wire. Every line of
it, and of the libraries it calls, has its rule in the specification.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest

from criimage.cri.runtime import v1
from criimage.testing.oci import Config, image, index, layer, noise_layer
from criimage.testing.scripted_registry import Answer, Auth, Stage, Trickle
from docker.docker_service import DockerService, present, refused
from parts.child import free_port
from parts.criimage_process import criimage
from parts.engine import KINDS, Engine, Kind, engine
from parts.registry import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker.conftest import Scripted
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Node:
    """An engine, a registry, and the service on the engine."""

    docker: Engine
    hub: Registry
    ds: DockerService


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.value)
def running_node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with engine(request.param) as docker, registry() as hub:
        # What the test does with the engine is done by somebody else, and is to be seen at once.
        settings = f'backend = "docker"\n[backends.docker]\nhost = {json.dumps(docker.host)}\ncache = false\n'
        with criimage(settings) as server, grpc.insecure_channel(server.endpoint) as channel:
            yield Node(docker, hub, DockerService(channel))


@pytest.fixture
def node(running_node: Node) -> Node:
    running_node.docker.clear()
    return running_node


# -- ListImages -------------------------------------------------------------------------------------------------------


def test_list_without_a_filter(node: Node) -> None:
    """Same (L1): no filter, a filter without an image, and an empty string each list everything."""
    name = node.hub.push(image(layer({"for": b"list"})), "seed/list", "1")
    node.docker.pull(name.removesuffix(":1"), "1")
    empty = [None, v1.ImageFilter(), v1.ImageFilter(image=v1.ImageSpec(image=""))]
    answers = [node.ds.list_images(one) for one in empty]

    assert [[entry.repo_tags for entry in answer.images] for answer in answers] == [[[name]]] * 3


def test_list_by_reference(node: Node) -> None:
    """Same (L2, L6): the engine decides what a filter matches. Different (L7): each match has all its names.

    The engine leaves out the names that the filter does not match; a kubelet that trusted such an answer would think
    the image has no others.
    """
    name = node.hub.push(image(layer({"for": b"by reference"})), "seed/filter", "1")
    repository = name.removesuffix(":1")
    node.docker.pull(repository, "1")
    node.docker.tag(name, repository, "2")

    def tags(text: str) -> list[list[str]]:
        found = node.ds.list_images(v1.ImageFilter(image=v1.ImageSpec(image=text)))
        return [list(entry.repo_tags) for entry in found.images]

    assert tags(repository) == tags(f"{repository}:1") == tags("127.0.0.1:*/seed/*") == [[name, f"{repository}:2"]]
    assert tags(f"{repository}:3") == []


def test_list_of_nothing(node: Node) -> None:
    """Same (L3): no images are an empty list and no error."""
    assert list(node.ds.list_images().images) == []


def test_list_converts_names_and_sizes(node: Node) -> None:
    """Same (C1): ID, tags, digests, size; no user, no spec. Different (C5): `<none>` is left out where no name is."""
    made = image(layer({"for": b"convert"}), config=Config(user="1000"))
    name = node.hub.push(made, "seed/convert", "1")
    node.docker.pull(name.removesuffix(":1"), "1")
    untagged = node.docker.import_untagged("seed")
    entries = {entry.id: entry for entry in node.ds.list_images().images}

    nameless = entries.pop(untagged)
    (entry,) = entries.values()
    assert (list(nameless.repo_tags), list(nameless.repo_digests)) == ([], [])
    assert entry.id == (made.digest if node.docker.kind.containerd_store else made.id)
    assert list(entry.repo_tags) == [name]
    assert list(entry.repo_digests) == [f"{name.removesuffix(':1')}@{made.digest}"]
    assert entry.size == node.docker.images()[-1]["Size"]
    assert (present(entry.uid), entry.username, present(entry.spec)) == (False, "", False)


# -- ImageStatus ------------------------------------------------------------------------------------------------------


def test_status_of_what_is_absent(node: Node) -> None:
    """Same (S1): not found is an empty answer and no error."""
    answer = node.ds.image_status("not-here:1", verbose=True)

    assert bytes(answer) == b""


def test_status_by_reference(node: Node) -> None:
    """Same (S3, S6): tag, `repo@digest`, both at once, short ID. Different (S5): full ID and 64 digits find it as well.

    cri-dockerd added the ID three months after the seed, and critest asks for it; crictl shows 64 digits alone.
    """
    made = image(layer({"for": b"status"}))
    name = node.hub.push(made, "seed/status", "1")
    repository = name.removesuffix(":1")
    node.docker.pull(repository, "1")
    listed = node.ds.list_images().images[0]
    digits = listed.id.removeprefix("sha256:")
    same = [name, f"{repository}@{made.digest}", f"{name}@{made.digest}", digits[:12]]
    different = [f"sha256:{digits}", digits]
    found = {asked: node.ds.image_status(asked).image for asked in same + different}
    absent = [f"other/repo@{made.digest}", f"{repository}:2", repository]

    assert {asked for asked, status in found.items() if status.id != listed.id} == set()
    assert [present(node.ds.image_status(asked).image) for asked in absent] == [False] * 3


def test_status_of_a_malformed_name(node: Node) -> None:
    """Same (S6): an error. Different (section 7): INVALID_ARGUMENT, where the seed answers UNKNOWN."""
    for name in ("UPPER", "foo bar", "a:b:c", "<none>:<none>", "x" * 300):
        with pytest.raises(grpc.RpcError) as error:
            node.ds.image_status(name)
        assert refused(error)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("user", "uid", "username"),
    [("", None, ""), ("0", 0, ""), ("1000:100", 1000, ""), ("nobody:nogroup", None, "nobody"), (":5", None, "")],
)
def test_status_tells_the_user(node: Node, user: str, uid: int | None, username: str) -> None:
    """Same (C2, C4): a number before the colon is the uid, 0 included, any other text the username, never both."""
    made = image(layer({"user": user.encode()}), config=Config(user=user))
    name = node.hub.push(made, "seed/user", "1")
    node.docker.pull(name.removesuffix(":1"), "1")
    found = node.ds.image_status(name).image

    assert (found.uid.value if present(found.uid) else None, found.username) == (uid, username)


def test_status_verbose(node: Node) -> None:
    """Same (S7): every label verbatim, none unless asked for. Different (S10): cri-dockerd's `info` besides."""
    labels = {"a": "1", "b.c/d": ""}
    name = node.hub.push(image(layer({"for": b"verbose"}), config=Config(labels=labels)), "seed/verbose", "1")
    node.docker.pull(name.removesuffix(":1"), "1")
    quiet, verbose = node.ds.image_status(name).info, dict(node.ds.image_status(name, verbose=True).info)

    assert dict(quiet) == {}
    assert json.loads(verbose.pop("info"))["labels"] == labels
    assert verbose == labels


# -- PullImage --------------------------------------------------------------------------------------------------------


def test_pull_answers_with_the_digest(node: Node) -> None:
    """Same (P8, getImageRef): v1alpha2 gets `repo@digest`. Different: of several that of the asked repository.

    v1 gets the image's ID, as v1 demands (design section 4).
    """
    made = image(layer({"for": b"pull"}))
    names = [node.hub.push(made, f"seed/{part}", "1") for part in ("z", "a")]
    answers = [node.ds.pull_image(name) for name in names]

    assert answers == [f"{name.removesuffix(':1')}@{made.digest}" for name in names]


def test_pull_without_a_tag(node: Node) -> None:
    """Same (P6): the name means `latest`, never every tag; a tag beside a digest is dropped."""
    made = image(layer({"for": b"latest"}))
    name = node.hub.push(made, "seed/tags", "latest", "1", "2")
    node.ds.pull_image(name.removesuffix(":latest"))
    assert [list(entry.repo_tags) for entry in node.ds.list_images().images] == [[name]]

    node.docker.clear()
    node.ds.pull_image(f"{name.removesuffix(':latest')}:zzz@{made.digest}")
    assert [list(entry.repo_tags) for entry in node.ds.list_images().images] == [[]]


def test_pull_an_index(node: Node) -> None:
    """Same (P8): the digest is that of the index, which the registry answered for the tag."""
    both = index(image(layer({"for": b"amd64"})), image(layer({"for": b"s"}), config=Config(architecture="s390x")))
    name = node.hub.push(both, "seed/index", "1")

    assert node.ds.pull_image(name) == f"{name.removesuffix(':1')}@{both.digest}"


def test_pull_with_credentials(node: Node, scripted: Scripted) -> None:
    """Same (P1): user name and password go to the engine. Different (P5): `auth` is decoded, where the seed ignores it.

    kubelets and crictl send it, and without it the pull fails for no reason that anybody could see.
    """
    with scripted(auth=Auth.BEARER, accounts={"user": "secret"}) as hub:
        name = hub.put(image(layer({"for": b"credentials"})), "seed/private", "1")
        assert node.ds.pull_image(name, v1.AuthConfig(username="user", password="secret"))  # noqa: S106 - a test's
        assert node.ds.pull_image(name, v1.AuthConfig(auth="dXNlcjpzZWNyZXQ="))
        for wrong in (None, v1.AuthConfig(username="user", password="wrong")):  # noqa: S106 - a test's
            with pytest.raises(grpc.RpcError) as error:
                node.ds.pull_image(name, wrong)
            # P16: a kubelet strips its wrapping from this code only.
            assert refused(error)[0] == "UNKNOWN"


def test_pull_of_what_is_not_there(node: Node) -> None:
    """Same (G5, P12): the engine's words, unchanged, as UNKNOWN."""
    with pytest.raises(grpc.RpcError) as error:
        node.ds.pull_image(f"{node.hub.address}/seed/nothing:1")

    code, text = refused(error)
    assert code == "UNKNOWN"
    assert f"{node.hub.address}/seed/nothing:1" in text
    assert "not found" in text


def test_filter_http_error(node: Node, scripted: Scripted) -> None:
    """Same (P13): `RegistryUnavailable: ` in front of 502, 503 and 504. Different: told by words too, and in short.

    P15: engines no longer send the code that the seed looks for. P14: the page of HTML is cut off, as the seed's
    comment promises and its code does not.
    """
    with scripted() as hub:
        name = hub.put(image(layer({"for": b"unavailable"})), "seed/down", "1")
        for code in (502, 503, 504):
            hub.script(Stage.MANIFEST, Answer(code, b"<html><svg>" + b"x" * 5000 + b"</svg></html>"))
            with pytest.raises(grpc.RpcError) as error:
                node.ds.pull_image(name)
            status, text = refused(error)
            assert status == "UNKNOWN"
            assert text.startswith("RegistryUnavailable: ")
            assert "<" not in text
            assert len(text) < 300


def test_a_registry_that_refuses(node: Node) -> None:
    """Different (design section 4): refused, unknown and silent registries are RegistryUnavailable as well.

    To the seed they are errors like any other, and kubelets then show them as ErrImagePull.
    """
    with pytest.raises(grpc.RpcError) as error:
        node.ds.pull_image(f"127.0.0.1:{free_port()}/a/b:1")

    status, text = refused(error)
    assert status == "UNKNOWN"
    assert text.startswith("RegistryUnavailable: ")


# -- RemoveImage ------------------------------------------------------------------------------------------------------


def test_remove_by_id_takes_every_name(node: Node) -> None:
    """Same (R3, R4): by the ID, all tags and digests go, tag by tag and without force; again is no error."""
    made = image(layer({"for": b"remove"}))
    for repository in ("one", "two"):
        for tag in ("1", "2"):
            node.ds.pull_image(node.hub.push(made, f"seed/{repository}", tag))
    (listed,) = node.ds.list_images().images
    assert len(listed.repo_tags) == 4
    for _ in range(2):
        node.ds.remove_image(listed.id)

    assert node.docker.images() == []


def test_remove_of_an_unknown_id(node: Node) -> None:
    """Same (R4): 64 zeros, which critest sends, are no error."""
    node.ds.remove_image("0" * 64)
    node.ds.remove_image(f"sha256:{'0' * 64}")


def test_remove_by_other_names(node: Node) -> None:
    """Different (R2): tag, digest, short ID and 64 digits remove the image, where the seed answers OK and does nothing.

    Its early return on "not found" was a cure for a crash; before that, the given name was deleted, and its own comment
    still says so. crictl rmi TAG is what people type.
    """
    made = image(layer({"for": b"names"}))
    for form in ("tag", "digest", "short", "hex"):
        name = node.hub.push(made, "seed/names", "1")
        reference = node.ds.pull_image(name)
        digits = node.ds.list_images().images[0].id.removeprefix("sha256:")
        node.ds.remove_image({"tag": name, "digest": reference, "short": digits[:12], "hex": digits}[form])
        assert node.docker.images() == [], form


def test_remove_in_use(node: Node) -> None:
    """Same (R8): an image in use stays. Different (R9): with all its names, and the code is FAILED_PRECONDITION.

    The seed removes name after name until the engine refuses, which leaves one tag and no digest.
    """
    made = image(layer({"for": b"used"}))
    for tag in ("1", "2", "3"):
        node.ds.pull_image(node.hub.push(made, "seed/used", tag))
    before = node.docker.images()
    node.docker.hold(before[0]["Id"], "user")
    with pytest.raises(grpc.RpcError) as error:
        node.ds.remove_image(before[0]["Id"])

    assert refused(error)[0] == "FAILED_PRECONDITION"
    # Newer engines count an image's containers there.
    assert [one["RepoTags"] for one in node.docker.images()] == [one["RepoTags"] for one in before]
    assert [one["RepoDigests"] for one in node.docker.images()] == [one["RepoDigests"] for one in before]


# -- beyond the file --------------------------------------------------------------------------------------------------


def test_a_request_without_an_image(node: Node) -> None:
    """Different (G4): the seed and cri-dockerd die of it; here it is INVALID_ARGUMENT, and the service goes on."""
    for method in ("ImageStatus", "PullImage", "RemoveImage"):
        with pytest.raises(grpc.RpcError) as error:
            node.ds.raw(method, b"")
        assert refused(error)[0] == "INVALID_ARGUMENT"

    assert list(node.ds.list_images().images) == []


def test_a_client_that_gives_up(node: Node, scripted: Scripted) -> None:
    """Different (G1): when the last caller of a pull is gone, the engine stops; the seed's pull runs on.

    A kubelet that retries joins a pull that others still wait for, and otherwise begins afresh.
    """
    with scripted() as hub:
        name = hub.put(image(noise_layer(3_000_000, seed="gives up")), "seed/slow", "1")
        hub.script(Stage.LAYER, Trickle(10_000, 0.05))
        send = node.ds.channel.unary_unary("/runtime.v1alpha2.ImageService/PullImage", bytes, bytes)
        # On a busy machine nothing may have begun after a second.
        seconds = 1.0
        while not hub.asked(Stage.LAYER):
            with pytest.raises(grpc.RpcError) as error:
                send(bytes(v1.PullImageRequest(image=v1.ImageSpec(image=name))), timeout=seconds)
            assert refused(error)[0] == "DEADLINE_EXCEEDED"
            seconds *= 2
        hub.wait(lambda: hub.asked(Stage.LAYER) and not hub.open(Stage.LAYER))
        (stopped,) = hub.asked(Stage.LAYER)

    assert stopped.sent < 3_000_000
    assert node.docker.images() == []


def test_image_fs_info(node: Node) -> None:
    """Different (F1): the seed's helper answers "not implemented" on Linux; here are the engine's true figures."""
    node.ds.pull_image(node.hub.push(image(layer({"data": bytes(100_000)})), "seed/usage", "1"))
    answer = v1.ImageFsInfoResponse().parse(node.ds.raw("ImageFsInfo", b""))

    (entry,) = answer.image_filesystems
    assert entry.used_bytes.value >= 100_000
    assert entry.fs_id.mountpoint.startswith("/")


def test_the_engine_is_down() -> None:
    """Different (section 7): UNAVAILABLE, so that clients know it is not the image; the seed answers UNKNOWN."""
    with engine(Kind.DEBIAN12) as docker:
        settings = f'backend = "docker"\n[backends.docker]\nhost = {json.dumps(docker.host)}\n'
        with criimage(settings) as server, grpc.insecure_channel(server.endpoint) as channel:
            ds = DockerService(channel)
            docker.kill()
            calls: list[Callable[[], object]] = [
                ds.list_images,
                lambda: ds.image_status("a:1"),
                lambda: ds.pull_image("127.0.0.1:1/a:1"),
                lambda: ds.remove_image("a:1"),
            ]
            for call in calls:
                with pytest.raises(grpc.RpcError) as error:
                    call()
                code, text = refused(error)
                assert code == "UNAVAILABLE"
                assert "is it running?" in text
            docker.start()
            assert list(ds.list_images().images) == []
            assert docker.ask("GET", "/_ping").status == http.client.OK
