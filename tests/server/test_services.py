"""Every method as a client sees it that shares no code with the server: grpcio and google's protobuf."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import StatusCode

from criimage import __version__, errors
from criimage.backend import Image, Problem, User
from criimage.cri.runtime import v1
from criimage.pins import Pins
from criimage.reference import ImageID, Reference
from criimage.server.calls.grpc_status import STATUSES, status_of
from criimage.server.services import health, images, replies
from criimage.server.services.replies import ImageReplies
from criimage.testing.memory import RemoteImage
from parts.google_client import deterministic, google_client, message
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import WatchedBackend, serving, stocked, until
from server.methods import LIST, PULL, REMOVE, SERVICES, STATUS, STREAM, field, spec

if TYPE_CHECKING:
    from pathlib import Path


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


async def test_what_a_status_asks_for_is_read_once(tmp_path: Path) -> None:
    """The same request is not read again, a long one is not kept, and a wrong one is wrong each time."""
    asked = images._asked
    asked.cache_clear()
    known, wrong = spec("example.com/a:1"), spec("A B")
    long = known + field(100, bytes(600))
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        for request, code in ((known, StatusCode.OK), (wrong, StatusCode.INVALID_ARGUMENT), (long, StatusCode.OK)):
            for _ in range(3):
                answer = await client.call(STATUS, request)
                assert answer.status == code.value[0]
    assert (asked.cache_info().hits, asked.cache_info().currsize) == (2, 1)
