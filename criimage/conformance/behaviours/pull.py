"""PullImage: what makes an image present, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.cri.runtime import v1
from criimage.testing import oci
from criimage.testing.scripted_registry import Stage

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_pull = group("pull")
_OTHER = "s390x" if oci.machine_architecture() != "s390x" else "amd64"


@_pull.required(
    "P1",
    "A pull answers a reference to the image that is not empty.",
    why="A kubelet takes an empty one for an error.",
    source="cri-protocol 2.4",
)
async def a_pull_answers_a_reference(t: Trial) -> None:
    made = await t.publish()
    t.expect(await t.client.pull(made.name), "image_ref is not empty", "it is empty")


@_pull.required(
    "P2",
    "The reference that a pull answers is the image's ID.",
    why="A kubelet keeps its proofs of access by one and asks with the other (CRI 1.36).",
    source="cri-protocol 2.5; critest, Image ID consistency",
)
async def the_reference_is_the_id(t: Trial) -> None:
    made = await t.publish()
    reference = await t.client.pull(made.name)
    t.equal(reference, (await t.present(made.name)).id, "image_ref, as Image.id,")


@_pull.required(
    "P3",
    "A pulled tag is the image's only tag.",
    why="critest compares the list of tags.",
    source="cri-protocol 3.2, with tag",
)
async def a_pulled_tag_is_the_only_one(t: Trial) -> None:
    made = await t.pulled(None, "1", "2")
    t.equal((await t.present(made.name)).repo_tags, [made.name], "repo_tags")


@_pull.required(
    "P4",
    "A pull without a tag pulls `latest`.",
    why="critest and people do it.",
    source="cri-protocol 3.2, without tag",
)
async def no_tag_pulls_latest(t: Trial) -> None:
    made = await t.publish()
    await t.client.pull(made.repository)
    t.equal((await t.present(made.repository)).repo_tags, [f"{made.repository}:latest"], "repo_tags")


@_pull.required(
    "P5",
    "An image pulled by digest has that digest and no tag.",
    why="critest compares both lists.",
    source="cri-protocol 3.2, with digest",
)
async def a_digest_gives_no_tag(t: Trial) -> None:
    made = await t.publish()
    await t.client.pull(made.by_digest)
    image = await t.present(made.by_digest)
    t.equal((image.repo_tags, image.repo_digests), ([], [made.by_digest]), "repo_tags and repo_digests")


@_pull.required(
    "P6",
    "An image under two tags is one image with both.",
    why="critest's repoTags spec; two images would be removed one by one.",
    source="cri-protocol 3.2, exactly 3 repoTags",
)
async def two_tags_are_one_image(t: Trial) -> None:
    made = await t.publish(None, "1", "2")
    references = {await t.client.pull(name) for name in made.names}
    t.equal(len(references), 1, "the number of references that the two pulls answer")
    t.equal(sorted((await t.present(made.name)).repo_tags), sorted(made.names), "repo_tags")


@_pull.required(
    "P7",
    "Three images are three images, each with its tag.",
    why="critest's repoTags spec.",
    source="cri-protocol 3.2, exactly 3 images",
)
async def three_images(t: Trial) -> None:
    made = [await t.pulled() for _ in range(3)]
    images = [await t.present(one.name) for one in made]
    t.equal(len({image.id for image in images}), 3, "the number of IDs")
    t.equal([image.repo_tags for image in images], [[one.name] for one in made], "the tags of each")


@_pull.required(
    "P8",
    "Of an index, the image for this machine is pulled.",
    why="Nearly every public image is an index.",
    source="cri-o P5; dockershim P2",
)
async def the_platform_is_chosen(t: Trial) -> None:
    other = t.image("other", config=oci.Config(architecture=_OTHER, user="1"))
    mine = t.image("mine", config=oci.Config(user="2"))
    made = await t.pulled(oci.index(other, mine))
    image = await t.present(made.name)
    t.equal(image.uid.value, 2, "the user of what was pulled, as of the image for this machine,")


@_pull.required(
    "P9",
    "An image for another machine only is refused, and nothing is there afterwards.",
    why="It would fail at the start of each container with `exec format error`.",
    source="cri-o section 8; containerd",
)
async def another_platform_is_refused(t: Trial) -> None:
    other = t.image("other", config=oci.Config(architecture=_OTHER))
    made = await t.publish(oci.index(other))
    await t.refused(t.client.pull(made.name), what="the pull")
    await t.absent(made.name)


@_pull.required(
    "P10",
    "When a tag has moved, a pull moves it: the name leaves the image that had it.",
    why="imagePullPolicy Always; a name of two images starts either.",
    source="cri-o P11; dockershim P10",
)
async def a_moved_tag_moves(t: Trial) -> None:
    old = await t.pulled(t.image("old"), "moving", "old", path="app")
    await t.client.pull(old.names[1])
    old_id = (await t.present(old.name)).id
    new = await t.pulled(t.image("new"), "moving", path="app")
    t.expect((await t.present(new.name)).id != old_id, "the tag finds the new image", "it finds the old one")
    t.equal((await t.present(old.names[1])).repo_tags, [old.names[1]], "the tags that the old image keeps")


@_pull.required(
    "P11",
    "The registry is asked at each pull, also where everything is stored.",
    why="A kubelet takes a successful pull for a proof that these credentials may have the image (KEP-2535).",
    source="cri-protocol 2.5b",
    needs=Need.SCRIPTED,
)
async def the_registry_is_always_asked(t: Trial) -> None:
    made = await t.pulled()
    before = len(t.supply.hub.requests)
    await t.client.pull(made.name)
    asked = [one for one in t.supply.hub.requests[before:] if one.stage is Stage.MANIFEST]
    t.expect(asked, "the second pull asks the registry for the manifest", "it asks for nothing")


@_pull.extended(
    "P12",
    "What is stored is not fetched again.",
    why="Pulls of unchanged images are the most frequent ones; they should move no layer.",
    source="cri-o P5 to P9",
    needs=Need.SCRIPTED,
)
async def stored_layers_are_not_fetched_again(t: Trial) -> None:
    made = await t.pulled()
    before = t.supply.hub.blob_bytes
    await t.client.pull(made.name)
    layers = [one.sent for one in t.supply.hub.asked(Stage.LAYER, repository=made.path)]
    moved = t.supply.hub.blob_bytes - before
    t.expect(moved <= made_config(made), "the second pull fetches no layer", f"{moved} bytes: {layers}")


def made_config(made: object) -> int:
    """How many bytes the config of what was published has: reading that again is no download of layers."""
    item = getattr(made, "item", None)
    return item.config.size if isinstance(item, oci.Image) else 0


@_pull.required(
    "P13",
    "An image from two repositories is one image with the names of both.",
    why="critest's specs of other registries; garbage collection counts by ID.",
    source="cri-protocol 3.2",
)
async def two_repositories_are_one_image(t: Trial) -> None:
    item = t.image()
    one, two = await t.pulled(item, "1", path="one"), await t.pulled(item, "1", path="two")
    image = await t.present(one.name)
    t.equal(sorted(image.repo_tags), sorted([one.name, two.name]), "repo_tags")
    t.expect({one.by_digest, two.by_digest} <= set(image.repo_digests), "both digests", f"{image.repo_digests}")


@_pull.required(
    "P14",
    "Images in Docker's own format can be pulled.",
    why="Many registries still serve schema 2.",
    source="cri-o P1",
)
async def docker_schema_2(t: Trial) -> None:
    item = oci.image(oci.layer({"seed": f"{t.supply.run} docker".encode()}), docker=True)
    made = await t.pulled(item)
    t.expect((await t.present(made.name)).size > 0, "it has a size")


@_pull.required(
    "P15",
    "A sandbox config with fields of a newer API does not disturb a pull.",
    why="Kubelets are newer than runtimes, and the reverse; they send the pod's whole config.",
    source="cri-protocol 1.2, PodSandboxConfig",
)
async def unknown_fields_do_not_disturb(t: Trial) -> None:
    made = await t.publish()
    metadata = v1.PodSandboxMetadata(name="pod", namespace="default", uid="1")
    sandbox = v1.PodSandboxConfig(metadata=metadata, labels={"a": "b"}, annotations={"c": "d"})
    spec = v1.ImageSpec(image=made.name, annotations={"e": "f"})
    request = bytes(v1.PullImageRequest(image=spec, sandbox_config=sandbox))
    # Field 3000, a text, which nobody knows.
    unknown = b"\xc2\xbb\x01\x03new"
    await t.client.send("/runtime.v1.ImageService/PullImage", request + unknown)
    await t.present(made.name)


@_pull.required(
    "P16",
    "What the registry does not have is an error, and nothing is there afterwards.",
    why="A kubelet reports ErrImagePull and tries again later.",
    source="cri-protocol 2.4",
)
async def a_missing_image_is_an_error(t: Trial) -> None:
    made = await t.publish()
    for name in (f"{made.repository}:none", f"{made.repository}-none:1", f"{made.repository}@sha256:{'0' * 64}"):
        await t.refused(t.client.pull(name), what=f"the pull of {name}")
        await t.absent(name)


@_pull.extended(
    "P17",
    "An image of twenty layers, two of them equal, is pulled whole.",
    why="Images are built so; a layer that comes twice is fetched once.",
    source="cri-o P12",
)
async def many_layers(t: Trial) -> None:
    layers = [oci.layer({f"{n}": f"{t.supply.run} {n}".encode()}) for n in range(19)]
    made = await t.pulled(oci.image(*layers, layers[0]))
    t.expect((await t.present(made.name)).size > 0, "it has a size")


@_pull.extended(
    "P18",
    "A name with tag and digest is pulled by its digest.",
    why="Tools that pin images write both.",
    source="cri-o N7; dockershim G3",
)
async def tag_and_digest(t: Trial) -> None:
    made = await t.publish(None, "1")
    await t.client.pull(f"{made.name}@{made.digest}")
    t.expect(made.by_digest in (await t.present(made.by_digest)).repo_digests, f"{made.by_digest} is found")


@_pull.required(
    "P19",
    "A pull without an image is refused.",
    why="Whoever forgets it must not pull anything, nor end the service.",
    source="cri-protocol 2; peers-observed 2",
    needs=Need.HOSTILE,
)
async def a_pull_without_an_image_is_refused(t: Trial) -> None:
    await t.refused(t.client.send("/runtime.v1.ImageService/PullImage", b""), what="the pull")
    await t.client.version()


@_pull.extended(
    "P20",
    "A tag that was pulled by name and an index's instance lie beside each other without harm.",
    why="A node has pods of both kinds for one image.",
    source="design 4, tags and digests",
)
async def index_and_instance(t: Trial) -> None:
    mine = t.image("mine")
    made = await t.pulled(oci.index(mine), "1", path="app")
    instance = f"{made.repository}@{mine.digest}"
    await t.client.pull(instance)
    t.equal((await t.present(instance)).uid.value, (await t.present(made.name)).uid.value, "the user of both")
    t.expect(made.name in (await t.present(made.name)).repo_tags, "the tag is still there")
