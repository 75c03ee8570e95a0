"""Claims: the backend's promises are the same whatever runtime is behind it, or the runtime is told to lack them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from cri_backend.written_runtime import Stored, container, hexadecimal, refusing, text, written_runtime
from criimage import wire
from criimage.backend import PullContext
from criimage.credentials import Credentials
from criimage.errors import (
    BackendUnavailable,
    ImageInUse,
    InvalidRequest,
    OperationFailed,
    PullError,
    RegistryUnavailable,
)
from criimage.reference import Lookup, Name
from criimage.testing.scripted_runtime import Script, ServedCall
from parts.cri_backend import cri_backend, listed, pull, remove, status
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

ONE, OTHER = hexadecimal("one"), hexadecimal("other")
DIGEST = f"sha256:{hexadecimal('manifest')}"
RUNTIMES = ("containerd", "cri-o", "docker", "somebody")


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "runtime.sock"


def spelled(name: str, digits: str = ONE) -> str:
    """An ID as the runtime writes it."""
    return digits if name == "cri-o" else f"sha256:{digits}"


def an_image(name: str, digits: str = ONE) -> Stored:
    return Stored(spelled(name, digits), ["reg.example/a:2", "reg.example/a:1"], [f"reg.example/a@{DIGEST}"])


@pytest.mark.parametrize("name", RUNTIMES)
async def test_every_form_of_a_name_finds_the_image(socket: Path, name: str) -> None:
    """ID in both spellings, its beginnings, tags and digest give equal answers, in the runtime's own ID format."""
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image(name), an_image(name, OTHER)]
        runtime.images[1].tags = runtime.images[1].digests = []
        texts = [ONE, f"sha256:{ONE}", ONE[:12], f"sha256:{ONE[:12]}", "reg.example/a:1", f"reg.example/a@{DIGEST}"]
        found = [await status(backend, text) for text in texts]
        filtered = [await listed(backend, text) for text in texts]

        assert found[0] is not None
        assert str(found[0].image.id) == spelled(name)
        assert found == [found[0]] * len(texts)
        assert filtered == [(found[0].image,)] * len(texts)
        assert [str(tag) for tag in found[0].image.tags] == ["reg.example/a:1", "reg.example/a:2"]
        for absent in ("CAFE", hexadecimal("none"), "reg.example/b:1", hexadecimal("none")[:20]):
            assert await status(backend, absent) is None, absent


async def test_what_is_gone_is_not_kept(socket: Path) -> None:
    """Images that come and go, or change their words, leave no memory behind."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        for number in range(5):
            runtime.images = [an_image("containerd", hexadecimal(f"{number} {one}")) for one in range(3)]
            assert len(await backend.images()) == 3
        assert len(backend._view._read) == 3


async def test_an_answer_about_something_else_is_none(socket: Path) -> None:
    """A runtime that finds by two digits, or answers with another image, is not believed."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        answer = Script(messages=(wire.length_delimited(1, an_image("containerd").encoded()),))
        runtime.server.on("/runtime.v1.ImageService/ImageStatus", answer)
        for text in (ONE[:2], "reg.example/a:3", "reg.example/b:1", OTHER):
            assert await status(backend, text) is None, text


async def test_labels_break_no_client(socket: Path) -> None:
    """cri-dockerd puts labels beside `info`: what crictl would take for JSON and is none is left out (S8)."""
    whole = {"plain": "text", "info": '{"a": 1}'}
    entries = {**whole, "broken": "{{ template", "number": '{"a": NaN}', "large": '{"a": 1e999}'}
    async with written_runtime(socket, "docker") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("docker")]
        answer = wire.length_delimited(1, an_image("docker").encoded())
        for key, value in entries.items():
            answer += wire.length_delimited(2, wire.text_field(1, key) + wire.text_field(2, value))
        runtime.server.on("/runtime.v1.ImageService/ImageStatus", Script(messages=(answer,)))
        found = await backend.status(Lookup.parse("reg.example/a:1"), verbose=True)
    assert found is not None
    assert found.info == whole


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("form", [ONE, f"sha256:{ONE}", ONE[:12], "reg.example/a:1", f"reg.example/a@{DIGEST}"])
async def test_removal_takes_all_names(socket: Path, name: str, form: str) -> None:
    """By whatever it is called; other images stay; a second removal is OK."""
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image(name), Stored(spelled(name, OTHER), ["reg.example/b:1"])]
        await remove(backend, form)
        await remove(backend, form)
        assert [image.id for image in runtime.images] == [spelled(name, OTHER)]


async def test_a_runtime_that_takes_one_name_a_call_is_called_again(socket: Path) -> None:
    """Several calls, until the image is gone."""
    async with written_runtime(socket, "somebody") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("somebody")]
        runtime.forgets = True
        await remove(backend, "reg.example/a:1")
        assert runtime.images == []


async def test_a_tag_that_moves_to_another_image_meanwhile_stays_there(socket: Path) -> None:
    """Asked for name by name, the runtime would remove whatever image has the name by then."""
    async with written_runtime(socket, "somebody") as runtime, cri_backend(f"unix://{socket}") as backend:
        first, newer = an_image("somebody"), Stored(spelled("somebody", OTHER), ["reg.example/a:2"])
        runtime.images = [first]
        runtime.forgets = True

        async def remove_and_move(call: ServedCall) -> None:
            await runtime._remove(call)
            if "reg.example/a:2" in first.tags:
                first.tags.remove("reg.example/a:2")
                runtime.images.append(newer)

        runtime.server.on("/runtime.v1.ImageService/RemoveImage", remove_and_move)
        await remove(backend, f"sha256:{ONE}")
        assert runtime.images == [newer]


async def test_a_runtime_that_keeps_the_image_is_no_ok(socket: Path) -> None:
    """OK without a removal is told as a failure."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", Script())
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", Script(messages=(b"",)))
        with pytest.raises(OperationFailed, match="still has it"):
            await remove(backend, ONE)


@pytest.mark.parametrize(
    "uses",
    [
        {"image": "reg.example/a:1", "image_ref": f"sha256:{ONE}"},
        {"image": "reg.example/a:1", "image_ref": f"reg.example/a@{DIGEST}", "image_id": ONE},
        {"image": f"sha256:{ONE}", "image_ref": f"docker-pullable://reg.example/a@{DIGEST}"},
        {"image": "reg.example/a:1", "image_ref": "docker://sha256:" + ONE},
        {"image": "reg.example/a:1"},
        {"image": "reg.example/moved:1", "image_ref": f"reg.example/a@{DIGEST}"},
    ],
    ids=["containerd", "cri-o", "cri-dockerd", "cri-dockerd by id", "name only", "digest only"],
)
async def test_an_image_in_use_loses_nothing(socket: Path, uses: dict[str, str]) -> None:
    """In whichever field a runtime names the image: ImageInUse, and no RemoveImage goes up."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        runtime.containers = [container("c1", **uses)]
        for text in (ONE, "reg.example/a:2"):
            with pytest.raises(ImageInUse, match="c1"):
                await remove(backend, text)
        assert runtime.server.called("RemoveImage") == []


async def test_a_container_of_an_image_that_lost_its_name_holds_only_that(socket: Path) -> None:
    """The name it was made with is another image's now: an ID decides."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd"), Stored(spelled("", OTHER))]
        runtime.containers = [container("c1", image="reg.example/a:1", image_ref=f"sha256:{OTHER}")]
        await remove(backend, "reg.example/a:1")
        assert [image.id for image in runtime.images] == [spelled("", OTHER)]


async def test_what_the_runtime_calls_in_use_is_in_use(socket: Path) -> None:
    """CRI-O refuses what an image volume uses, which no list of containers shows."""
    async with written_runtime(socket, "cri-o") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("cri-o")]
        runtime.server.on("/runtime.v1.ImageService/RemoveImage", refusing(f"image used by 1b2: image {ONE} is in use"))
        with pytest.raises(ImageInUse):
            await remove(backend, ONE)


async def test_removals_at_once_all_succeed_where_the_runtime_lets_some_fail(socket: Path) -> None:
    """A cri-dockerd answers some of them with a conflict; the image is gone, so all are OK."""
    async with written_runtime(socket, "docker") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("docker")]
        await asyncio.gather(*(remove(backend, text) for text in (ONE, ONE[:12], "reg.example/a:1", "reg.example/a:2")))
        assert runtime.images == []
        assert len(runtime.server.called("RemoveImage")) == 1


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("image_ref", ["id", "digest"])
async def test_a_pull_carries_everything(socket: Path, name: str, image_ref: str) -> None:
    """Annotations, runtime handler, credentials and a sandbox config with fields of the future reach the runtime."""
    sandbox = wire.length_delimited(1, wire.text_field(1, "pod")) + wire.length_delimited(999, b"\xff\x00 new")
    context = PullContext("ns", "pod", {"b": "2", "a": "1"}, "kata", sandbox)
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image(name)
        runtime.image_ref = image_ref
        pulled = await pull(backend, "reg.example/a:1", Credentials("me", "s3cret"), context=context)
        (request,) = runtime.server.called("PullImage")[0].messages

        assert str(pulled.id) == spelled(name)
        assert await listed(backend) == (pulled,)
    fields = {number: value for number, _, value in wire.fields(request)}
    assert fields[3] == sandbox
    assert (text(request, 2, 1), text(request, 2, 2), text(request, 2, 4)) == ("me", "s3cret", "")
    assert text(request, 1, 19) == "kata"
    annotations = [value for number, _, value in wire.fields(fields[1]) if number == 2]  # type: ignore[arg-type]
    assert {text(one, 1): text(one, 2) for one in annotations if isinstance(one, bytes)} == {"a": "1", "b": "2"}


async def test_tokens_reach_the_runtime(socket: Path) -> None:
    """Identity and registry token go as what they are, without a name and a password that nobody gave."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image("containerd")
        tokens = Credentials(identity_token="who", registry_token="may")  # noqa: S106
        await pull(backend, "reg.example/a:1", tokens)
        (request,) = runtime.server.called("PullImage")[0].messages
    fields = {number: value for number, _, value in wire.fields(request)}
    auth = fields[2]
    assert isinstance(auth, bytes)
    assert [(number, value) for number, _, value in wire.fields(auth)] == [(5, b"who"), (6, b"may")]


@pytest.mark.parametrize("name", RUNTIMES)
async def test_a_runtime_that_tells_no_downloads_promises_no_progress(socket: Path, name: str) -> None:
    """What is behind a name alone counts for nothing: without containerd's content service nothing is reported."""
    phases: list[object] = []
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image(name)
        await pull(backend, "reg.example/a:1", report=phases.append)
        assert backend.reports_progress is False
    assert len(phases) <= 1


async def test_credentials_that_are_no_utf8_go_as_they_are(socket: Path) -> None:
    """As `auth`, which holds any bytes; cri-dockerd does not read that, so they are refused there."""
    odd = Credentials("me", b"\xffx".decode("utf-8", "surrogateescape"))
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image("containerd")
        await pull(backend, "reg.example/a:1", odd)
        (request,) = runtime.server.called("PullImage")[0].messages
        assert text(request, 2, 3) == "bWU6/3g="
        assert text(request, 2, 1) == ""
        runtime.name = "docker"
        await backend.check()
        with pytest.raises(InvalidRequest):
            await pull(backend, "reg.example/a:1", odd)
        assert len(runtime.server.called("PullImage")) == 1


@pytest.mark.parametrize(("name", "goes_up"), [("containerd", "docker.io/library/app:latest"), ("cri-o", "app:latest")])
async def test_a_short_name_means_what_it_means_to_the_runtime(socket: Path, name: str, goes_up: str) -> None:
    """docker.io with containerd; CRI-O has search registries and aliases of its own, so it gets the name as typed."""
    async with written_runtime(socket, name) as runtime, cri_backend(f"unix://{socket}") as backend:
        (reference,) = await backend.resolve(Name.parse("app"))
        (complete,) = await backend.resolve(Name.parse("docker.io/library/app"))
        runtime.pulls[goes_up] = an_image(name)
        await backend.pull(reference, None, PullContext(), lambda progress: None)
        assert text(runtime.server.called("PullImage")[0].messages[0], 1, 1) == goes_up
        assert (reference == complete) is (name == "containerd")


async def test_an_engine_that_would_not_ask_gives_no_proof(socket: Path) -> None:
    """A digest that cri-dockerd has: refused, or allowed by the setting; what it does not have is pulled."""
    reference = f"reg.example/a@{DIGEST}"
    async with written_runtime(socket, "docker") as runtime:
        runtime.pulls[reference] = an_image("docker")
        async with cri_backend(f"unix://{socket}") as backend:
            await pull(backend, reference, Credentials("me", "right"))
            with pytest.raises(OperationFailed, match="would not ask the registry"):
                await pull(backend, reference, Credentials("you", "wrong"))
            assert len(runtime.server.called("PullImage")) == 1
            assert len(await backend.limits()) == 2
        sources: list[str] = []
        async with cri_backend(f"unix://{socket}", allow_unproven_pulls=True) as backend:
            you = Credentials("you", "wrong")
            await pull(backend, reference, you, report=lambda progress: sources.append(progress.credential_source))
            assert sources == [""]


async def test_a_cancelled_pull_is_cancelled_at_the_runtime(socket: Path) -> None:
    """The call is reset there before long."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.server.on("/runtime.v1.ImageService/PullImage", Script(stall_after=0))
        pulling = asyncio.create_task(pull(backend, "reg.example/a:1"))
        await until(lambda: runtime.server.called("PullImage"))
        pulling.cancel()
        await until(lambda: runtime.server.called("PullImage")[0].cancelled)
        assert pulling.cancelled()


async def test_the_same_bytes_are_the_same_values(socket: Path) -> None:
    """An unchanged list is the same tuple, in whatever order it comes; one new image leaves the others as they are."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd"), Stored(spelled("", OTHER), ["reg.example/b:1"])]
        before = await backend.images()
        assert await backend.images() is before
        runtime.order = -1
        assert await backend.images() is before
        runtime.images.append(Stored(spelled("", hexadecimal("third")), ["reg.example/c:1"]))
        after = await backend.images()
        assert len(after) == 3
        assert {id(image) for image in before} < {id(image) for image in after}
        details = await status(backend, ONE)
        assert details is not None
        assert details.image == next(image for image in after if image.id.hex == ONE)


async def test_what_a_call_costs_the_runtime(socket: Path) -> None:
    """A list, a status and a usage one call each; a pull the pull and one status; a removal six short ones."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.pulls["reg.example/a:1"] = an_image("containerd")
        await pull(backend, "reg.example/a:1")

        async def cost(work: Awaitable[object]) -> list[str]:
            before = len(runtime.server.calls)
            await work
            return [call.path.rpartition("/")[2] for call in runtime.server.calls[before:]]

        assert await cost(pull(backend, "reg.example/a:1")) == ["PullImage", "ImageStatus"]
        assert await cost(backend.images()) == ["ListImages"]
        assert await cost(status(backend, "reg.example/a:1")) == ["ImageStatus"]
        assert await cost(backend.usage()) == ["ImageFsInfo"]
        # A verbose answer costs a runtime more, and nobody has asked for one.
        for call in runtime.server.called("ImageStatus"):
            assert [number for number, _, _ in wire.fields(call.messages[0])] == [1]
        looked = ["ImageStatus", "ImageStatus", "ListContainers", "RemoveImage", "ImageStatus", "ImageStatus"]
        assert await cost(remove(backend, "reg.example/a:1")) == looked


async def test_odd_images_hide_no_other(socket: Path) -> None:
    """Names that are none are left out, an image without an ID or of broken bytes too; halves of one are joined."""
    async with written_runtime(socket, "cri-o") as runtime, cri_backend(f"unix://{socket}") as backend:
        parts = [
            Stored(ONE, ["<none>:<none>", "reg.example/a:1"], [f"127.0.0.1@{DIGEST}", "<none>@<none>"]).encoded(),
            Stored(ONE, ["reg.example/a:2"]).encoded(),
            Stored("", ["reg.example/b:1"]).encoded(),
            Stored("no id", ["reg.example/b:1"]).encoded(),
            b"\x0a\xff",
        ]
        answer = b"".join(wire.length_delimited(1, part) for part in parts)
        runtime.server.on("/runtime.v1.ImageService/ListImages", Script(messages=(answer,)))
        (image,) = await backend.images()
        assert [str(tag) for tag in image.tags] == ["reg.example/a:1", "reg.example/a:2"]
        assert image.digests == ()


async def test_the_engines_familiar_names_are_complete(socket: Path) -> None:
    """cri-dockerd lists `busybox:1`, which is docker.io's."""
    async with written_runtime(socket, "docker") as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [Stored(spelled("docker"), ["busybox:1"], [f"busybox@{DIGEST}"])]
        (image,) = await backend.images()
        assert [str(name) for name in (*image.tags, *image.digests)] == [
            "docker.io/library/busybox:1",
            f"docker.io/library/busybox@{DIGEST}",
        ]


async def test_what_the_runtime_pins_is_pinned(socket: Path) -> None:
    """The sandbox image as the runtime marks it, and no other: a kubelet never removes what is pinned."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        pinned, other = (
            an_image("containerd").encoded() + wire.varint_field(8, 1),
            an_image("containerd", OTHER).encoded(),
        )
        answer = b"".join(wire.length_delimited(1, one) for one in (pinned, other))
        runtime.server.on("/runtime.v1.ImageService/ListImages", Script(messages=(answer,)))
        assert {image.id.hex: image.pinned for image in await backend.images()} == {ONE: True, OTHER: False}


async def test_usage_fills_both_lists(socket: Path) -> None:
    """Containerd leaves the list for containers empty: then it is the images'."""
    async with written_runtime(socket), cri_backend(f"unix://{socket}") as backend:
        usage = await backend.usage()
        assert usage.images == usage.containers
        assert (usage.images[0].mountpoint, usage.images[0].used_bytes, usage.images[0].inodes_used) == ("/", 77, None)


@pytest.mark.parametrize("version", ["v1", "v1alpha2"])
async def test_either_version_of_the_api_will_do(socket: Path, version: str) -> None:
    """A runtime with one of them only is asked in that one, and a restart with the other is noticed."""
    async with written_runtime(socket, versions=(version,)) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        assert await backend.check() == ()
        assert len(await backend.images()) == 1
        await remove(backend, ONE)
        assert runtime.images == []
        asked = [call.path.split(".")[1] for call in runtime.server.calls][-3:]
        assert set(asked) == {version}
        other = "v1alpha2" if version == "v1" else "v1"
        runtime.install(other)
        await runtime.server.restart((other,))
        assert await backend.images() == ()


async def test_a_runtime_that_is_down_or_hangs_is_told(socket: Path) -> None:
    """UNAVAILABLE at once with the socket in the text, after request_timeout where it hangs, and well again after."""
    async with (
        written_runtime(socket) as runtime,
        cri_backend(f"unix://{socket}", request_timeout="2s") as backend,
    ):
        runtime.images = [an_image("containerd")]
        assert len(await backend.images()) == 1
        await runtime.server.stop()
        with pytest.raises(BackendUnavailable, match=str(socket)):
            await backend.images()
        (problem,) = await backend.check()
        assert str(socket) in problem.text + problem.remedy
        with pytest.raises(BackendUnavailable):
            await pull(backend, "reg.example/a:1")
        await runtime.server.start()
        assert len(await backend.images()) == 1
        runtime.server.go_deaf()
        with pytest.raises(BackendUnavailable, match="did not answer within 2s"):
            await backend.images()
        runtime.server.hear_again()
        assert len(await backend.images()) == 1


async def test_a_runtime_is_looked_at_when_it_is_another(socket: Path) -> None:
    """Whether it has an image service is asked once, again when another answers, always of one without a name."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        for count in (1, 1):
            assert await backend.check() == ()
            assert len(runtime.server.called("ImageFsInfo")) == count
        runtime.name = "cri-o"
        for count in (2, 2):
            assert await backend.check() == ()
            assert len(runtime.server.called("ImageFsInfo")) == count
        for version in ("v1", "v1alpha2"):
            runtime.server.on(f"/runtime.{version}.RuntimeService/Version", refusing("not now"))
        for count in (3, 4):
            assert await backend.check() == ()
            assert len(runtime.server.called("ImageFsInfo")) == count


async def test_a_runtime_without_an_image_service_is_a_problem(socket: Path) -> None:
    """As containerd with its CRI plugin off."""
    async with written_runtime(socket, versions=()), cri_backend(f"unix://{socket}") as backend:
        (problem,) = await backend.check()
        assert "no CRI image service" in problem.text
        assert "disabled_plugins" in problem.remedy


async def test_a_runtime_that_cannot_tell_its_usage_still_has_images(socket: Path) -> None:
    """An error of ImageFsInfo is one of that call only."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.images = [an_image("containerd")]
        runtime.server.on("/runtime.v1.ImageService/ImageFsInfo", refusing("statfs: input/output error"))
        assert await backend.check() == ()
        assert len(await backend.images()) == 1
        with pytest.raises(OperationFailed, match="input/output error"):
            await backend.usage()


async def test_equal_failures_have_equal_texts(socket: Path) -> None:
    """Ports, resolvers and names of unfinished work are left out; passwords never come through."""
    name = "reg.example/a:1"
    said = [
        f'pull "{name}": read tcp 10.0.0.2:{port}->10.0.0.1:443: read: connection reset by peer; me:s3cret-canary'
        for port in (40001, 40002)
    ]
    texts = []
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        for words in said:
            runtime.server.on("/runtime.v1.ImageService/PullImage", refusing(words))
            with pytest.raises(RegistryUnavailable) as refused:
                await pull(backend, name, Credentials("me", "s3cret-canary"))
            texts.append(refused.value.text)
    assert texts[0] == texts[1]
    assert "s3cret-canary" not in texts[0]


async def test_an_answer_that_cannot_be_decoded_is_a_failure(socket: Path) -> None:
    """Broken bytes of a whole answer are an error, never an empty list."""
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        runtime.server.on("/runtime.v1.ImageService/ListImages", Script(messages=(b"\x0a\xff",)))
        runtime.server.on("/runtime.v1.ImageService/ImageStatus", Script(messages=(b"\x0a\xff",)))
        with pytest.raises(OperationFailed, match="cannot be decoded"):
            await backend.images()
        with pytest.raises(OperationFailed, match="cannot be decoded"):
            await status(backend, "reg.example/a:1")
        with pytest.raises(PullError):
            await pull(backend, "reg.example/none:1")
