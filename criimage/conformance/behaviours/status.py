"""ImageStatus: whether an image is there, and what it says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import betterproto

from criimage.conformance.behaviour import group
from criimage.conformance.trial import spelled
from criimage.testing import oci

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_status = group("status")
_ABSENT = "0" * 64


@_status.required(
    "S1",
    "An image that is not there is no error: the answer has no image.",
    why="A kubelet takes an error for ImageInspectError and does not pull.",
    source="cri-protocol 1.1",
)
async def an_absent_image_is_no_error(t: Trial) -> None:
    await t.absent(f"{t.supply.host}/{t.supply.run}/s1/none:1")


@_status.required(
    "S2",
    "An image is found by its tag.",
    why="It is how a kubelet asks before it starts a container.",
    source="cri-protocol 2.3",
)
async def found_by_tag(t: Trial) -> None:
    made = await t.pulled()
    t.expect(made.name in (await t.present(made.name)).repo_tags, f"{made.name} is among its tags")


@_status.required(
    "S3",
    "An image is found by its ID as the service writes it.",
    why="A kubelet hands on the ID that a pull answered.",
    source="cri-protocol 2.5",
)
async def found_by_id(t: Trial) -> None:
    image = await t.present((await t.pulled()).name)
    t.equal((await t.present(image.id)).id, image.id, "the ID of what is found by it")


@_status.required(
    "S4",
    "An image is found by its digest.",
    why="Pods that are pinned to a digest are looked up by it.",
    source="cri-protocol 3.2, all kinds of references",
)
async def found_by_digest(t: Trial) -> None:
    made = await t.pulled()
    t.equal((await t.present(made.by_digest)).id, (await t.present(made.name)).id, "the ID of what the digest finds")


@_status.extended(
    "S5",
    "An image is found by the beginning of its ID.",
    why="`crictl inspecti` is given what `crictl images` shows.",
    source="peers-observed 2",
)
async def found_by_short_id(t: Trial) -> None:
    image = await t.present((await t.pulled()).name)
    t.equal((await t.present(spelled(image.id)[0][:13])).id, image.id, "the ID of what 13 digits find")


@_status.required(
    "S6",
    "Tag, ID and digest give equal answers.",
    why="critest compares them field by field.",
    source="cri-protocol 3.2, all kinds of references",
)
async def every_name_gives_the_same(t: Trial) -> None:
    made = await t.pulled()
    image = await t.present(made.name)
    for text in (image.id, *image.repo_tags, *image.repo_digests):
        t.expect(bytes(await t.present(text)) == bytes(image), f"{text} gives what {made.name} gives", "it differs")


@_status.extended(
    "S7",
    "An ID is understood with `sha256:` and without.",
    why="Runtimes write IDs in both ways, and people copy from either.",
    source="peers-observed 2",
)
async def both_spellings_of_an_id(t: Trial) -> None:
    image = await t.present((await t.pulled()).name)
    for text in spelled(image.id):
        t.equal((await t.present(text)).id, image.id, f"the ID of what {text} finds")


async def _user(t: Trial, user: str) -> tuple[int | None, str]:
    made = await t.pulled(t.image(config=oci.Config(user=user)))
    image = await t.present(made.name)
    number = image.uid.value if betterproto.serialized_on_wire(image.uid) else None
    return number, image.username


@_status.required(
    "S8",
    "A user that is a number is told as `uid`.",
    why="runAsNonRoot is decided by it.",
    source="cri-protocol 2.6",
)
async def a_numeric_user(t: Trial) -> None:
    t.equal(await _user(t, "1002"), (1002, ""), "uid and username for the user 1002")


@_status.required(
    "S9",
    "A user that is a name is told as `username`.",
    why="A kubelet refuses runAsNonRoot with a name; without it the image counts as root's.",
    source="cri-protocol 2.6",
)
async def a_named_user(t: Trial) -> None:
    t.equal(await _user(t, "www-data"), (None, "www-data"), "uid and username for the user www-data")


@_status.required(
    "S10",
    "The group is left out of a numeric user.",
    why="critest has images with both; `1003:1004` is no number.",
    source="cri-protocol 3.2, Uid/Username",
)
async def a_numeric_user_with_a_group(t: Trial) -> None:
    t.equal(await _user(t, "1003:1004"), (1003, ""), "uid and username for the user 1003:1004")


@_status.required(
    "S11",
    "The group is left out of a named user.",
    why="critest has images with both.",
    source="cri-protocol 3.2, Uid/Username",
)
async def a_named_user_with_a_group(t: Trial) -> None:
    t.equal(await _user(t, "www-data:1004"), (None, "www-data"), "uid and username for the user www-data:1004")


@_status.required(
    "S12",
    "User 0 is told as `uid` 0, not left out.",
    why="Left out and 0 are two things on the wire: only the message's presence tells them apart.",
    source="cri-protocol 2.6; python-stack 1",
)
async def user_zero_is_told(t: Trial) -> None:
    t.equal(await _user(t, "0"), (0, ""), "uid and username for the user 0")


@_status.required(
    "S13",
    "An image without a user tells neither `uid` nor `username` other than root's.",
    why="A kubelet treats an image that says nothing as root's.",
    source="cri-protocol 2.6",
)
async def no_user(t: Trial) -> None:
    number, name = await _user(t, "")
    t.expect((number or 0) == 0 and not name, "neither is told, or uid 0", f"uid {number}, username {name!r}")


@_status.required(
    "S14",
    "`info` is empty unless a verbose status is asked for.",
    why="A kubelet asks often and never for it.",
    source="cri-protocol 1.2",
)
async def info_is_only_for_who_asks(t: Trial) -> None:
    made = await t.pulled()
    t.equal((await t.client.status(made.name)).info, {}, "info of a plain status")


@_status.required(
    "S15",
    "Each value of `info` that begins with a brace is a JSON object.",
    why="`crictl inspecti` fails as a whole otherwise.",
    source="cri-protocol 3.1; dockershim S8",
)
async def info_is_json(t: Trial) -> None:
    labels = {"quotes": '"\\{}', "number": "007", "brace": "{", "unicode": "\u2028\u00e4"}
    made = await t.pulled(t.image(config=oci.Config(labels=labels)))
    for key, value in (await t.client.status(made.name, verbose=True)).info.items():
        if value.startswith("{"):
            try:
                json.loads(value)
            except ValueError as error:
                t.expect(condition=False, expected=f"info[{key!r}] is JSON", got=f"{error}")


@_status.extended(
    "S16",
    "A verbose status has the image's config as `info.imageSpec`.",
    why="People's crictl templates read `.info.imageSpec.config`.",
    source="cri-protocol 3.1",
)
async def info_has_the_image_spec(t: Trial) -> None:
    made = await t.pulled(t.image(config=oci.Config(env=("CONFORMANCE=1",))))
    info = (await t.client.status(made.name, verbose=True)).info
    t.expect("info" in info, "there is a key `info`", f"there are {sorted(info)}")
    spec = json.loads(info["info"]).get("imageSpec", {})
    t.equal(spec.get("config", {}).get("Env"), ["CONFORMANCE=1"], "imageSpec.config.Env")


@_status.required(
    "S17",
    "A verbose status of an absent image is no error either.",
    why="`crictl inspecti` tells it itself.",
    source="cri-protocol 1.1",
)
async def a_verbose_absent_image_is_no_error(t: Trial) -> None:
    answer = await t.client.status(f"{t.supply.host}/{t.supply.run}/s17/none:1", verbose=True)
    t.expect(not answer.image.id, "there is no image", f"there is {answer.image.id}")


@_status.required(
    "S18",
    "Another tag or digest of a known repository finds nothing.",
    why="A kubelet would start the wrong image.",
    source="cri-o N6",
)
async def another_tag_finds_nothing(t: Trial) -> None:
    made = await t.pulled()
    await t.absent(f"{made.repository}:other", f"{made.repository}@sha256:{_ABSENT}")


@_status.required(
    "S19",
    "A name without a tag means `latest`.",
    why="A kubelet checks runAsNonRoot with the pod's raw string, without the `:latest` that it pulled with.",
    source="cri-protocol 2.3, 2.6",
)
async def no_tag_means_latest(t: Trial) -> None:
    made = await t.pulled()
    t.expect(made.name in (await t.present(made.repository)).repo_tags, f"{made.repository} finds {made.name}")


@_status.required(
    "S20",
    "An ID that is not there finds nothing, and is no error.",
    why="A kubelet asks for the IDs of its records.",
    source="cri-protocol 1.1",
)
async def an_absent_id_finds_nothing(t: Trial) -> None:
    await t.absent(_ABSENT, f"sha256:{_ABSENT}")


@_status.extended(
    "S21",
    "The manifest's annotations are told as `spec.annotations`.",
    why="CRI-O tells them, and hooks look at them.",
    source="cri-protocol 1.2, Image.spec",
)
async def annotations_are_told(t: Trial) -> None:
    made = await t.pulled(t.image(annotations={"org.example.conformance": "yes"}))
    found = (await t.present(made.name)).spec.annotations
    t.equal(found.get("org.example.conformance"), "yes", "the annotation org.example.conformance")
