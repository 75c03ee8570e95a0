"""Every method as a client sees it that shares no code with the server: grpcio and google's protobuf."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from criimage import __version__, errors
from criimage.backend import FilesystemUsage, Image, ImageDetails, Problem, Usage, User
from criimage.cri.runtime import v1
from criimage.pins import Pins
from criimage.reference import ImageID, Reference
from criimage.server import health, replies
from criimage.server.replies import ImageReplies, ListTally, UsageReplies
from criimage.server.status import STATUSES, status_of
from criimage.testing.memory import RemoteImage
from parts.google_client import deterministic, google_client, message
from parts.raw_client import Answer, framed, grpc_headers, raw_client
from parts.serving import WatchedBackend, serving, stocked, until
from server.methods import LIST, PULL, REMOVE, STATUS, STREAM, field, spec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import betterproto

VERSIONS = ("v1", "v1alpha2")
A1 = {"image": "example.com/a:1"}


# One life of an image, on both versions


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_life_of_an_image(tmp_path: Path, version: str) -> None:
    """Pull, list, status by every name, remove: what each answers, byte for byte as google encodes it."""
    remote = RemoteImage("a1")
    async with serving(tmp_path) as running:
        with google_client(running.path) as client:
            assert not (await client.call(version, "ListImages")).images
            assert not (await client.call(version, "ImageStatus", image=A1)).HasField("image")
            pulled = await client.call(version, "PullImage", image=A1)
            digest = f"example.com/a@{remote.digest}"
            assert pulled.image_ref == (remote.id.hex if version == "v1" else digest)
            (listed,) = (await client.call(version, "ListImages")).images
            assert (listed.id, list(listed.repo_tags), list(listed.repo_digests)) == (
                remote.id.hex,
                ["example.com/a:1"],
                [digest],
            )
            assert (listed.size, listed.pinned, listed.HasField("uid"), listed.HasField("spec")) == (
                1000,
                False,
                False,
                False,
            )
            for name in ("example.com/a:1", remote.id.hex, remote.id.hex[:12], f"sha256:{remote.id.hex}", digest):
                found = await client.call(version, "ImageStatus", image={"image": name})
                assert found.image.id == remote.id.hex
                assert found.image.HasField("uid")
                assert found.image.uid.value == 0
                assert dict(found.image.spec.annotations) == {"k": "v", "a": "b"}
                assert not found.info
                filtered = await client.call(version, "ListImages", filter={"image": {"image": name}})
                assert [image.id for image in filtered.images] == [remote.id.hex]
            verbose = await client.call(version, "ImageStatus", image=A1, verbose=True)
            assert json.loads(verbose.info["info"]) == {"imageSpec": {}}
            info = await client.call(version, "ImageFsInfo")
            (usage,) = info.image_filesystems
            assert (usage.fs_id.mountpoint, usage.used_bytes.value, usage.inodes_used.value) == ("/", 1000, 1)
            assert usage.timestamp > 0
            if version == "v1":
                assert len(info.container_filesystems) == 1
            await client.call(version, "RemoveImage", image=A1)
            await client.call(version, "RemoveImage", image=A1)
            assert not (await client.call(version, "ListImages")).images


async def test_both_versions_answer_the_same_bytes(tmp_path: Path) -> None:
    """The messages that both define are one on the wire (python-stack 1)."""
    async with serving(tmp_path) as running:
        with google_client(running.path) as client:
            for name in ("example.com/a:1", "example.com/a:2", "example.com/b:1", "busybox"):
                await client.call("v1", "PullImage", image={"image": name})
            requests = [
                ("ListImages", b""),
                ("ListImages", field(1, spec("busybox"))),
                *(("ImageStatus", spec(name) + flag) for name in ("busybox", "nothing") for flag in (b"", b"\x10\x01")),
                ("RemoveImage", spec("nothing")),
            ]
            for method, request in requests:
                one, two = [await client.raw(f"/runtime.{v}.ImageService/{method}", request) for v in VERSIONS]
                assert one == two, (method, request)
            user = (await client.call("v1alpha2", "ImageStatus", image={"image": "example.com/b:1"})).image
            assert (user.username, user.HasField("uid")) == ("nobody", False)


async def test_text_that_utf8_cannot_hold_does_not_cost_a_status(tmp_path: Path) -> None:
    r"""An image's author can write half of a surrogate pair in JSON (`\ud800`): clients see what Go makes of it."""
    registry = stocked()
    registry.put("example.com/odd:1", RemoteImage("odd", 1, User(name="\ud800x"), {"\udfff": "a\ud800\U0001f600"}))
    async with serving(tmp_path, WatchedBackend(registry)) as running:
        with google_client(running.path) as client:
            odd = {"image": "example.com/odd:1"}
            await client.call("v1", "PullImage", image=odd)
            found = (await client.call("v1", "ImageStatus", image=odd)).image
            assert found.username == "\ufffdx"
            assert dict(found.spec.annotations) == {"\ufffd": "a\ufffd\U0001f600"}


async def test_fs_info_of_v1alpha2_has_no_containers(tmp_path: Path) -> None:
    """Field 2 came in 0.29; a client of v1alpha2 never sees it (cri-protocol 1.2)."""
    async with serving(tmp_path) as running:
        with google_client(running.path) as client:
            one, two = [await client.raw(f"/runtime.{version}.ImageService/ImageFsInfo") for version in VERSIONS]
            assert len(v1.ImageFsInfoResponse().parse(one).container_filesystems) == 1
            assert not v1.ImageFsInfoResponse().parse(two).container_filesystems


@pytest.mark.parametrize(
    ("setting", "version", "kind"),
    [
        *(("auto", "v1", "id"), ("auto", "v1alpha2", "digest"), ("id", "v1", "id"), ("id", "v1alpha2", "id")),
        *(("repo-digest", "v1", "digest"), ("repo-digest", "v1alpha2", "digest")),
    ],
)
async def test_image_ref(tmp_path: Path, setting: str, version: str, kind: str) -> None:
    """What a pull answers, by setting and version, and the same when the image is there already (section 4)."""
    registry = stocked()
    registry.put("example.org/other:1", RemoteImage("a1", 1000))
    async with serving(tmp_path, WatchedBackend(registry), image_ref=setting) as running:
        remote = RemoteImage("a1")
        with google_client(running.path) as client:
            for name in ("example.com/a", "example.org/other", "example.com/a"):
                pulled = await client.call(version, "PullImage", image={"image": f"{name}:1"})
                assert pulled.image_ref == (remote.id.hex if kind == "id" else f"{name}@{remote.digest}")


# StreamImages


@pytest.mark.parametrize(("count", "batches"), [(0, []), (1, [1]), (5, [5]), (6, [5, 1]), (11, [5, 5, 1])])
async def test_stream_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, batches: list[int]) -> None:
    """Every image once, at most a batch in a message, no message for none (cri-protocol 1.1, S18)."""
    assert replies.STREAM_BATCH == 3000
    monkeypatch.setattr(replies, "STREAM_BATCH", 5)
    backend = WatchedBackend()
    for n in range(count):
        backend.registry.put(f"a.b/c:{n}", RemoteImage(str(n)))
    async with serving(tmp_path, backend) as running:
        with google_client(running.path) as client:
            for n in range(count):
                await client.call("v1", "PullImage", image={"image": f"a.b/c:{n}"})
            answers = await client.stream(STREAM)
            assert [len(v1.StreamImagesResponse().parse(answer).images) for answer in answers] == batches
            assert b"".join(answers) == await client.raw(LIST)
            one = await client.stream(STREAM, field(1, spec("a.b/c:0")))
            assert len(one) == min(count, 1)


async def test_a_list_of_16_mib(tmp_path: Path) -> None:
    """A large answer passes whole, over many frames and windows (cri-protocol 2.2)."""
    backend = WatchedBackend()
    images = tuple(
        Image(ImageID(f"{n:064x}"), tuple(Reference.parse(f"a.b/{'c' * 200}/{n}:{t}") for t in range(20)), (), n + 1)
        for n in range(3000)
    )
    backend._images = images
    async with serving(tmp_path, backend) as running:
        with google_client(running.path) as client:
            data = await client.raw(LIST)
            assert len(data) > 12 * 2**20
            assert data == ImageReplies(Pins(())).all(images)
            assert b"".join(await client.stream(STREAM)) == data


# Encoding

_domains = st.sampled_from(["docker.io", "a.b", "localhost:5000", "x-y.example:1"])
_paths = st.sampled_from(["library/a", "b", "c/d/e_f"])
_digests = st.binary(min_size=32, max_size=32).map(lambda data: f"sha256:{data.hex()}")
_tags = st.builds(Reference, _domains, _paths, st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z"))
_names = st.builds(lambda reference, digest: reference.with_digest(digest), _tags, _digests)
_ids = st.builds(ImageID, st.binary(min_size=32, max_size=32).map(bytes.hex), st.booleans())
_images = st.builds(
    Image,
    _ids,
    st.lists(_tags, max_size=3).map(tuple),
    st.lists(_names, max_size=3).map(tuple),
    st.integers(1, 2**64 - 1),
    st.booleans(),
)
_users = st.none() | st.builds(User, st.integers(-(2**63), 2**63 - 1)) | st.builds(User, st.none(), st.text(max_size=9))
# Of keys of equal length, because runtimes order those differently of which one begins another.
_maps = st.dictionaries(st.text("abc\xe9\u4e2d", min_size=3, max_size=3), st.text(max_size=200), max_size=4)
_details = st.builds(ImageDetails, _images, _users, _maps, _maps)
_filesystems = st.builds(
    FilesystemUsage,
    st.text(max_size=20).map(lambda text: f"/{text}"),
    st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**64 - 1),
    st.integers(1, 2**63 - 1),
)


def _google(image: Image, details: ImageDetails | None = None, *, pinned: bool = False) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": str(image.id),
        "repo_tags": [str(tag) for tag in image.tags],
        "repo_digests": [str(digest) for digest in image.digests],
        "size": image.size,
        "pinned": image.pinned or pinned,
    }
    if details is None:
        return fields
    if details.user is not None and details.user.uid is not None:
        fields["uid"] = {"value": details.user.uid}
    elif details.user is not None:
        fields["username"] = details.user.name
    if details.annotations:
        fields["spec"] = {"annotations": dict(details.annotations)}
    return fields


def _better(kind: type[betterproto.Message], data: bytes) -> bytes:
    return bytes(kind().parse(data))


@given(st.lists(_images, max_size=4, unique_by=lambda image: image.id.hex), st.booleans())
@hypothesis_settings(deadline=None)
def test_lists_are_encoded_as_google_and_betterproto_do(images: list[Image], pin: bool) -> None:
    """Hand-made bytes of a list equal google's, deterministic, and betterproto's, with and without pins."""
    made = ImageReplies(Pins(["*/*"] if pin else ()))
    pinned = [pin and bool(image.tags or image.digests) for image in images]
    for version in VERSIONS:
        expected = message(
            f"runtime.{version}.ListImagesResponse",
            images=[_google(image, pinned=flag) for image, flag in zip(images, pinned, strict=True)],
        )
        assert made.all(tuple(images)) == made.some(tuple(images)) == deterministic(expected)
    assert _better(v1.ListImagesResponse, made.all(tuple(images))) == made.all(tuple(images))
    assert b"".join(made.batches(tuple(images))) == made.all(tuple(images))


@given(_details, st.booleans())
@hypothesis_settings(deadline=None)
def test_statuses_are_encoded_as_google_and_betterproto_do(details: ImageDetails, pin: bool) -> None:
    """The same for a status: uid 0 present, a name that is empty absent, maps in order."""
    data = ImageReplies(Pins(["*/*"] if pin else ())).status(details)
    pinned = pin and bool(details.image.tags or details.image.digests)
    for version in VERSIONS:
        fields = _google(details.image, details, pinned=pinned)
        expected = message(f"runtime.{version}.ImageStatusResponse", image=fields, info=dict(details.info))
        assert data == deterministic(expected)
    user = details.user
    # betterproto forgets the presence of an Int64Value of 0 (python-stack 1), and writes no empty value in a map.
    if not (user and user.uid == 0) and all((*details.annotations.values(), *details.info.values())):
        assert _better(v1.ImageStatusResponse, data) == data


def test_no_image_is_no_bytes() -> None:
    """A status of nothing is an empty answer, never an error (cri-protocol 1.1)."""
    assert ImageReplies(Pins(())).status(None) == b""


@given(st.lists(_filesystems, max_size=3), st.lists(_filesystems, max_size=3))
@hypothesis_settings(deadline=None)
def test_usage_is_encoded_as_google_does(images: list[FilesystemUsage], containers: list[FilesystemUsage]) -> None:
    """used_bytes is present even at 0: a kubelet dereferences it unseen (cri-protocol 2.8)."""

    def made(entry: FilesystemUsage) -> dict[str, Any]:
        fields = {
            "timestamp": entry.timestamp,
            "fs_id": {"mountpoint": entry.mountpoint},
            "used_bytes": {"value": entry.used_bytes},
        }
        return fields | ({} if entry.inodes_used is None else {"inodes_used": {"value": entry.inodes_used}})

    usage = Usage(tuple(images), tuple(containers))
    fields = {"image_filesystems": [made(entry) for entry in images]}
    old = message("runtime.v1alpha2.ImageFsInfoResponse", **fields)
    assert UsageReplies().of(usage, containers=False) == deterministic(old)
    fields["container_filesystems"] = [made(entry) for entry in containers]
    new = message("runtime.v1.ImageFsInfoResponse", **fields)
    assert UsageReplies().of(usage, containers=True) == deterministic(new)


# Reusing bytes


def _image(number: int, tag: str = "1") -> Image:
    return Image(ImageID(f"{number:064x}"), (Reference.parse(f"a.b/c{number}:{tag}"),), (), number + 1)


def test_the_same_tuple_gives_the_same_bytes() -> None:
    """While the backend returns one tuple, the whole answer is one object (design section 3)."""
    made = ImageReplies(Pins(()))
    images = tuple(_image(n) for n in range(3))
    first = made.all(images)
    assert made.all(images) is first
    equal = made.all(tuple(_image(n) for n in range(3)))
    assert equal == first
    assert made.all(images) == first


def test_only_a_changed_image_is_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are kept by ID while the value is equal, and dropped with the image (design section 3)."""
    encoded: list[Image] = []
    names = replies._names

    def counted(image: Image) -> bytes:
        encoded.append(image)
        return names(image)

    monkeypatch.setattr(replies, "_names", counted)
    made = ImageReplies(Pins(()))
    made.all(tuple(_image(n) for n in range(3)))
    assert len(encoded) == 3
    changed = made.all((_image(0), _image(1, "2"), _image(2)))
    assert encoded[3:] == [_image(1, "2")]
    assert changed == ImageReplies(Pins(())).all((_image(0), _image(1, "2"), _image(2)))
    del encoded[:]
    made.some((_image(2),))
    made.all((_image(2), _image(0)))
    assert not encoded
    assert len(made._images) == 2
    made.all(())
    assert not made._images


def test_long_annotations_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of annotations cost a status their encoding once, as long as they are the same; few are kept."""
    monkeypatch.setattr(replies, "_LONG_ANNOTATIONS_KEPT", 2)
    encoded: list[int] = []
    written = replies._map

    def counted(number: int, entries: Mapping[str, str]) -> bytes:
        encoded.append(number)
        return written(number, entries)

    monkeypatch.setattr(replies, "_map", counted)
    long = {f"key {n}": "value" for n in range(101)}
    made = ImageReplies(Pins(()))

    def status(number: int, annotations: dict[str, str]) -> bytes:
        # A new image each time, as from a backend that makes its images anew.
        return made.status(ImageDetails(_image(number), None, annotations))

    first = status(0, long)
    assert first == ImageReplies(Pins(())).status(ImageDetails(_image(0), None, long))
    del encoded[:]
    assert status(0, dict(long)) == first
    assert not encoded
    assert status(0, long | {"key 0": "other"}) != first
    assert len(encoded) == 1
    for number in (1, 2, 0):
        status(number, long)
    assert len(encoded) == 4
    status(2, long)
    assert len(encoded) == 4


def test_an_id_in_another_spelling_is_encoded_again() -> None:
    """Equality of IDs looks at the digits alone; the bytes must not."""
    made = ImageReplies(Pins(()))
    bare, prefixed = Image(ImageID("0" * 64)), Image(ImageID("0" * 64, prefixed=True))
    assert bare == prefixed
    assert made.all((bare,)) != made.all((prefixed,))
    assert made.some((bare,)) != made.some((prefixed,))


async def test_pins_change_while_running(tmp_path: Path) -> None:
    """The operator's pins are seen in lists and statuses, and after a reload the others are (S12)."""
    async with serving(tmp_path, pinned_images=["*a:1*"]) as running:
        with google_client(running.path) as client:
            for name in ("example.com/a:1", "example.com/b:1"):
                await client.call("v1", "PullImage", image={"image": name})

            async def pinned() -> set[str]:
                listed = (await client.call("v1", "ListImages")).images
                found = {image.repo_tags[0] for image in listed if image.pinned}
                for image in listed:
                    status = await client.call("v1", "ImageStatus", image={"image": image.id})
                    assert status.image.pinned is image.pinned
                return found

            assert await pinned() == {"example.com/a:1"}
            running.assembly.images.repin(Pins(["EXAMPLE.com/b*"]))
            assert await pinned() == {"example.com/b:1"}
            running.assembly.images.repin(Pins(()))
            assert await pinned() == set()


# Errors


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__])
async def test_every_kind_of_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[errors.CriimageError]
) -> None:
    """A backend's error reaches the client as the one table says, from every call (design section 4)."""
    nearest = next(ancestor for ancestor in kind.__mro__ if ancestor in STATUSES)
    status, beginning = STATUSES[nearest]

    async def fail(*_: object, **__: object) -> None:
        raise kind("it did not work")

    async with serving(tmp_path) as running:
        for method in ("pull", "remove", "images", "status", "usage"):
            monkeypatch.setattr(running.backend, method, fail)
        with google_client(running.path) as client:
            for version in VERSIONS:
                for name in ("PullImage", "RemoveImage", "ImageStatus", "ListImages", "ImageFsInfo"):
                    request = spec("example.com/a:1") if "Image" in name and name[0] in "PRI" else b""
                    path = f"/runtime.{version}.ImageService/{name}"
                    answer = await client.error(path, b"" if name == "ImageFsInfo" else request)
                    assert answer == (StatusCode[status.name], f"{beginning}it did not work")
            with pytest.raises(grpc.RpcError) as caught:
                await client.stream(STREAM)
            assert caught.value.code() == StatusCode[status.name]


def test_the_table() -> None:
    """What kubelets look for stands there (cri-protocol 2.4): UNKNOWN for pulls, two prefixes at the very start."""
    assert {kind.__name__: (status.name, text) for kind, (status, text) in STATUSES.items()} == {
        "InvalidRequest": ("INVALID_ARGUMENT", ""),
        "ImageInUse": ("FAILED_PRECONDITION", ""),
        "ReadOnlyImage": ("FAILED_PRECONDITION", ""),
        "BackendUnavailable": ("UNAVAILABLE", ""),
        "RegistryUnavailable": ("UNKNOWN", "RegistryUnavailable: "),
        "SignatureRejected": ("UNKNOWN", "SignatureValidationFailed: "),
        "CriimageError": ("UNKNOWN", ""),
    }


async def test_a_fault_of_ours_does_not_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERNAL for a bug in a backend, UNKNOWN where it was a pull or a removal, and never its text or traceback."""

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("password hunter2")

    async with serving(tmp_path) as running:
        for method in ("pull", "remove", "images", "status", "usage"):
            monkeypatch.setattr(running.backend, method, fail)
        with google_client(running.path) as client:
            for path in (LIST, STATUS, REMOVE, PULL):
                code, text = await client.error(path, b"" if path == LIST else spec("example.com/a:1"))
                assert code == (StatusCode.UNKNOWN if path in {PULL, REMOVE} else StatusCode.INTERNAL)
                assert text == "internal error, the log of the image service says more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("line one\nline two\r\n\ttabbed  twice", "line one line two tabbed twice"),
        ("bücher \u4e2d\u6587 \U0001f600 100%", "bücher \u4e2d\u6587 \U0001f600 100%"),
        ("a\0b\x7f", "a\0b\x7f"),
        ("half a pair: \udcff", "half a pair: ?"),
        ("x" * 10_000, "x" * 2500),
        ("\u4e2d" * 5000, "\u4e2d" * 833),
    ],
    ids=["lines", "unicode", "controls", "surrogate", "long", "long unicode"],
)
async def test_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    """A message is one line of at most 2500 bytes; anything else is percent-encoded, as gRPC demands."""

    async def fail(*_: object, **__: object) -> None:
        raise errors.OperationFailed(text)

    async with serving(tmp_path) as running:
        monkeypatch.setattr(running.backend, "images", fail)
        async with raw_client(running.path) as client:
            answer = await client.call(LIST)
            assert answer.message == expected
            assert answer.raw_message.isascii()
            assert answer.raw_message.isprintable()
        with google_client(running.path) as other:
            code, details = await other.error(LIST)
            assert code in {StatusCode.UNKNOWN, StatusCode.RESOURCE_EXHAUSTED}
            # grpcio itself refuses headers of more than 16 KiB.
            assert details == expected or len(answer.raw_message) > 2**13


def test_the_prefix_survives_a_long_text() -> None:
    """The two words kubelets look for are never cut."""
    assert status_of(errors.RegistryUnavailable("x" * 5000))[1].startswith("RegistryUnavailable: xxx")
    assert len(status_of(errors.RegistryUnavailable("x" * 5000))[1]) == 2500


# RuntimeService, health, reflection


@pytest.mark.parametrize("version", VERSIONS)
async def test_runtime_service(tmp_path: Path, version: str) -> None:
    """Version and Status are what every client insists on (cri-protocol 1.4); the rest is UNIMPLEMENTED."""
    async with serving(tmp_path) as running:
        with google_client(running.path) as client:
            service = f"/runtime.{version}.RuntimeService"
            for asked in ("", "0.1.0", "v1", "anything"):
                request = message(f"runtime.{version}.VersionRequest", version=asked)
                answer = message(f"runtime.{version}.VersionResponse")
                answer.ParseFromString(await client.raw(f"{service}/Version", deterministic(request)))
                assert (answer.version, answer.runtime_name) == ("0.1.0", "criimage")
                assert (answer.runtime_version, answer.runtime_api_version) == (__version__, version)
            for verbose in (False, True):
                request = message(f"runtime.{version}.StatusRequest", verbose=verbose)
                status = message(f"runtime.{version}.StatusResponse")
                status.ParseFromString(await client.raw(f"{service}/Status", deterministic(request)))
                conditions = {one.type: (one.status, one.reason) for one in status.status.conditions}
                assert conditions == {
                    "RuntimeReady": (True, "ImageServiceOnly"),
                    "NetworkReady": (True, "ImageServiceOnly"),
                }
                assert {key: json.loads(value) for key, value in status.info.items()} == (
                    {"config": {"listen": "here"}} if verbose else {}
                )
            for other in ("RunPodSandbox", "ListContainers", "RuntimeConfig", "GetContainerEvents", "Exec"):
                code, _ = await client.error(f"{service}/{other}", b"")
                assert code == StatusCode.UNIMPLEMENTED


async def test_a_backend_with_problems(tmp_path: Path) -> None:
    """RuntimeReady follows the backend, and so does health; both say so without failing (section 4)."""
    backend = WatchedBackend(problems=(Problem("no skopeo", "install it"), Problem("no root", "be root")))
    async with serving(tmp_path, backend) as running:
        with google_client(running.path) as client:
            status = v1.StatusResponse().parse(await client.raw("/runtime.v1.RuntimeService/Status"))
            ready, network = status.status.conditions
            assert (ready.type, ready.status, ready.message) == ("RuntimeReady", False, "no skopeo; no root")
            assert network.status
            assert await client.raw("/grpc.health.v1.Health/Check") == b"\x08\x02"


SERVICES = [
    *(f"runtime.{version}.{name}" for version in VERSIONS for name in ("ImageService", "RuntimeService")),
    "criimage.v1.PullService",
    "criimage.v1.RemovalService",
    "criimage.v1.StatusService",
]


async def test_health_check(tmp_path: Path) -> None:
    """SERVING for the server and each of its services, NOT_FOUND for others (grpc.health.v1)."""
    async with serving(tmp_path) as running:
        with google_client(running.path) as client:
            for service in ("", *SERVICES):
                assert await client.raw("/grpc.health.v1.Health/Check", field(1, service)) == b"\x08\x01"
            code, text = await client.error("/grpc.health.v1.Health/Check", field(1, "other"))
            assert (code, text) == (StatusCode.NOT_FOUND, "unknown service")


async def test_health_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch tells the state at once and every change; an unknown service is SERVICE_UNKNOWN, and no error."""
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.001)
    async with serving(tmp_path) as running:
        with google_client(running.path) as client:
            assert await client.stream("/grpc.health.v1.Health/Watch", field(1, "other"), first=1) == [b"\x08\x03"]
        async with raw_client(running.path) as raw:
            answer = await raw.send(grpc_headers("/grpc.health.v1.Health/Watch"), framed(b""))
            await until(lambda: answer.messages == [b"\x08\x01"])
            running.backend._problems = (Problem("gone", "come back"),)
            await until(lambda: answer.messages == [b"\x08\x01", b"\x08\x02"])
            running.backend._problems = ()
            await until(lambda: len(answer.messages) == 3)
            raw.cancel(answer)
            await raw.flush()
            await running.quiet()


REFLECTIONS = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]


@pytest.mark.parametrize("path", REFLECTIONS)
async def test_reflection(tmp_path: Path, path: str) -> None:
    """It lists every service, and from a symbol a client comes to all descriptors it needs."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

    async with serving(tmp_path) as running, raw_client(running.path) as client:

        async def ask(question: ServerReflectionRequest) -> ServerReflectionResponse:
            answer = await client.call(path, question.SerializeToString())
            assert answer.status == 0
            (data,) = answer.messages
            return ServerReflectionResponse.FromString(data)

        listed = (await ask(ServerReflectionRequest(list_services=""))).list_services_response.service
        assert [service.name for service in listed] == sorted(SERVICES)
        for service in SERVICES:
            pool = DescriptorPool()
            found = await ask(ServerReflectionRequest(file_containing_symbol=service))
            (data,) = found.file_descriptor_response.file_descriptor_proto
            file = FileDescriptorProto.FromString(data)
            for name in file.dependency:
                found = await ask(ServerReflectionRequest(file_by_filename=name))
                (data,) = found.file_descriptor_response.file_descriptor_proto
                pool.Add(FileDescriptorProto.FromString(data))
            pool.Add(file)
            assert pool.FindServiceByName(service).methods
        assert (await ask(ServerReflectionRequest(file_containing_symbol="no.Such"))).error_response.error_code == 5
        bad = await client.call(path, b"\x0a\x05a")
        assert bad.status == StatusCode.INVALID_ARGUMENT.value[0]
        await running.quiet()


def _has_message(answer: Answer) -> bool:
    return len(answer.messages) == 1


async def test_reflection_answers_several_questions_in_one_call(tmp_path: Path) -> None:
    """It is a stream in both directions; clients such as grpcurl keep one open."""
    from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest

    question = framed(ServerReflectionRequest(list_services="").SerializeToString())
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answers = [await client.send(grpc_headers(path), question, end=False) for path in REFLECTIONS * 3]
        for answer in answers:
            await until(partial(_has_message, answer))
            client.h2.send_data(answer.stream, question, end_stream=True)
        await client.flush()
        for answer in answers:
            await answer.finished()
            assert answer.status == 0
            assert len(answer.messages) == 2
        await running.quiet()


_FRESH = """
import asyncio, sys, tempfile, pathlib
sys.path.insert(0, {tests!r})
from parts.serving import serving
from parts.raw_client import raw_client

def loaded():
    return sorted(name for name in sys.modules if name.startswith(("google.protobuf", "grpclib.reflection")))

async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with serving(pathlib.Path(folder)) as running, raw_client(running.path) as client:
            for path in {paths!r}:
                assert (await client.call(path)).status is not None
            assert not loaded(), loaded()
            assert (await client.call({reflection!r}, bytes([0x3a, 0]))).status == 0
            assert loaded()

asyncio.run(main())
"""


async def test_google_protobuf_waits_for_the_first_question(tmp_path: Path) -> None:
    """A server that nobody asks for its interface never imports google's protobuf: 10 MB (python-stack 6)."""
    from pathlib import Path as Folder

    from server.methods import EVERY

    paths = [*EVERY, "/grpc.health.v1.Health/Check"]
    tests = str(Folder(__file__).parents[1])
    script = _FRESH.format(tests=tests, paths=paths, reflection=REFLECTIONS[0])
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_list_is_made_once_for_what_is_the_same() -> None:
    """The metric of lists counts those that were made and those that were kept, one each."""
    tally = ListTally()
    replies, images = ImageReplies(Pins(()), tally), ()
    assert [replies.all(images) for _ in range(3)] == [b""] * 3
    assert (tally.made, tally.kept) == (1, 2)
