"""Claims: `config check` knows which backend and runtime belong together, and the runtime's sandbox image is pinned."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from criimage import wire
from criimage.backend import Image, PullContext
from criimage.channel import Channel
from criimage.cli import main
from criimage.pairs import compare_images, fitting, look_at_pair
from criimage.reference import ImageID, Reference
from criimage.runtime_facts import RuntimeFacts, ask_runtime
from criimage.server.services.sandbox_pin import SandboxPin
from criimage.settings import Settings
from criimage.testing.memory import MemoryBackend, Registry, RemoteImage
from criimage.testing.scripted_runtime import Script, ScriptedRuntime
from parts.containerd import containerd
from parts.criimage_process import criimage
from parts.critest_images import push_all
from parts.debian13 import unstable
from parts.missing import need
from parts.registry import registry

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.pins import Pins

ONE, OTHER = "a" * 64, "b" * 64
PAUSE = "registry.example/pause:3"


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "runtime.sock"


def play(
    server: ScriptedRuntime, name: str, version: str = "1.0", config: object = None, ids: tuple[str, ...] = ()
) -> None:
    """Let a scripted runtime be somebody."""
    about = b"".join(wire.text_field(number, text) for number, text in enumerate(("0.1.0", name, version, "v1"), 1))
    server.on("/runtime.v1.RuntimeService/Version", Script(messages=(about,)))
    entry = wire.text_field(1, "config") + wire.text_field(2, json.dumps(config))
    server.on("/runtime.v1.RuntimeService/Status", Script(messages=(wire.length_delimited(2, entry),)))
    images = b"".join(wire.length_delimited(1, wire.text_field(1, one)) for one in ids)
    server.on("/runtime.v1.ImageService/ListImages", Script(messages=(images,)))
    server.on("/runtime.v1.ImageService/ImageStatus", Script(messages=(b"",)))


@pytest.mark.parametrize(
    ("backend", "runtime", "advice"),
    [
        ("docker", "docker", None),
        ("docker", "cri-o", 'backend = "containers-storage", or "cri"'),
        ("docker", "containerd", 'backend = "cri"'),
        ("containers-storage", "cri-o", None),
        ("containers-storage", "docker", 'backend = "docker", or "cri"'),
        ("containers-storage", "containerd", 'backend = "cri"'),
        ("containers-storage", "somebody", 'backend = "cri"'),
        *(("cri", runtime, None) for runtime in ("containerd", "cri-o", "docker", "somebody")),
        ("of-somebody-else", "containerd", None),
    ],
)
def test_which_backend_fits_which_runtime(backend: str, runtime: str, advice: str | None) -> None:
    """Docker with cri-dockerd, containers-storage with CRI-O, cri with any; and what to set instead."""
    problem = fitting(backend, RuntimeFacts(runtime))
    assert (problem is None) is (advice is None)
    if problem is not None and advice is not None:
        assert advice in problem.remedy


def image(digits: str, *, prefixed: bool = False) -> Image:
    return Image(ImageID(digits, prefixed), (Reference.parse(f"reg.example/{digits[0]}:1"),))


@pytest.mark.parametrize(
    ("ours", "theirs", "unseen", "said"),
    [
        ((), [], [], []),
        ((image(ONE),), [ONE, OTHER], [], []),
        ((image(ONE),), [OTHER], ["reg.example/a:1"], ["different stores"]),
        ((), [OTHER], [], ["different stores"]),
        (
            (image(ONE), image(OTHER)),
            [OTHER],
            ["reg.example/a:1"],
            ["does not find images of the backend: reg.example/a:1"],
        ),
        ((image(ONE),), [f"sha256:{ONE}"], [], ["in another way"]),
        ((image(ONE, prefixed=True),), [f"sha256:{ONE}"], [], []),
        ((image(ONE),), [], ["reg.example/a:1"], ["does not find"]),
    ],
)
def test_images_are_compared(ours: tuple[Image, ...], theirs: list[str], unseen: list[str], said: list[str]) -> None:
    """Different stores, an image that the runtime does not find, and another format of IDs are told."""
    found = compare_images(ours, theirs, "use one store", unseen=unseen)
    assert len(found) == len(said)
    for problem, text in zip(found, said, strict=True):
        assert text in problem.text
        assert problem.remedy


async def test_a_pair_is_looked_at(socket: Path) -> None:
    """With the runtime's own image service; one that is gone meanwhile is not said to be missing."""
    registry = Registry()
    backend = MemoryBackend(registry)
    reference = registry.put("reg.example/a:1", RemoteImage("a"))
    pulled = RemoteImage("a").id
    async with ScriptedRuntime(socket) as server:
        play(server, "cri-o", config={"sandboxImage": PAUSE}, ids=(str(pulled), OTHER))
        await backend.pull(reference, None, PullContext(), lambda progress: None)
        fits = await look_at_pair(backend, "containers-storage", socket)
        play(server, "cri-o", ids=(OTHER,))
        apart = await look_at_pair(backend, "containers-storage", socket)
        wrong = await look_at_pair(backend, "docker", socket)
    gone = await look_at_pair(backend, "containers-storage", socket)

    assert fits == ([], [f"the runtime at unix://{socket} is CRI-O 1.0", f"its sandbox image is {PAUSE}; it is pinned"])
    assert ["different stores" in problem.text for problem in apart[0]] == [True]
    assert "those of CRI-O's storage" in apart[0][0].remedy
    assert ["does not look for images" in problem.text for problem in wrong[0]] == [True]
    assert any("runtime.sandbox_image" in line for line in apart[1])
    assert ["does not answer" in problem.text for problem in gone[0]] == [True]


@pytest.mark.parametrize(
    ("version", "config", "mode"),
    [
        ("1.6.20~ds1", {}, "by itself"),
        ("v2.0.5", {"registry": {}}, "by itself"),
        ("2.1.0", {"registry": {"configPath": "/etc"}}, "transfer service"),
        ("2.4.0", {"registry": {"mirrors": {"a": {}}}}, "by itself, because"),
        ("2.4.0", {"useLocalImagePull": True}, "by itself, as"),
        ("2.1.9+unknown", {"cni": {}}, "does not tell"),
        ("2.4.0", None, "does not tell"),
    ],
)
async def test_how_containerd_pulls_is_told(socket: Path, version: str, config: object, mode: str) -> None:
    """By its version and its configuration; where these do not say, both ways are told and where to look."""
    async with ScriptedRuntime(socket) as server, Channel(socket) as channel:
        play(server, "containerd", version, config)
        facts = await ask_runtime(channel)
    assert mode in facts.pull_mode


async def test_the_sandbox_image_is_pinned_and_stays_so(socket: Path) -> None:
    """As the runtime tells it, in full; a reload keeps it, another image replaces it, a lost one changes nothing."""
    given: list[Pins] = []
    pin = SandboxPin(Settings(), given.append)
    own = Image(ImageID(ONE), (Reference.parse("docker.io/library/pause:3"),))
    later = Image(ImageID(OTHER), (Reference.parse(PAUSE),))

    async with ScriptedRuntime(socket) as server, Channel(socket) as channel:
        play(server, "containerd", config={"sandboxImage": "pause:3"})
        await pin.ask(channel)
        await pin.ask(channel)
        assert len(given) == 1
        assert given[-1].match(own)
        reloaded = Settings(pinned_images=("reg.example/a:1",))
        pin.use(reloaded, pin.pins(reloaded))
        assert given[-1].match(own)
        assert given[-1].match(image(ONE))
        play(server, "containerd", config={"sandboxImage": PAUSE})
        await pin.ask(channel)
        assert (given[-1].match(own), given[-1].match(later), given[-1].match(image(ONE))) == (False, True, True)
        await server.stop()
        await pin.ask(channel)
        assert given[-1].match(later)


def test_the_setting_comes_before_what_is_told() -> None:
    """`sandbox_image` is pinned without any runtime."""
    settings = Settings.model_validate({"runtime": {"sandbox_image": PAUSE}})
    assert SandboxPin(settings, lambda pins: None).pins(settings).match(Image(ImageID(ONE), (Reference.parse(PAUSE),)))


async def test_two_engines_are_told_with_the_setting_that_makes_them_one(socket: Path) -> None:
    """cri-dockerd before another engine than the backend's."""
    registry = Registry()
    backend = MemoryBackend(registry)
    await backend.pull(registry.put("reg.example/a:1", RemoteImage("a")), None, PullContext(), lambda progress: None)
    async with ScriptedRuntime(socket) as server:
        play(server, "docker", "0.4.3", ids=(f"sha256:{OTHER}",))
        (problem,), lines = await look_at_pair(backend, "docker", socket)
    assert "different stores" in problem.text
    assert "backends.docker.host" in problem.remedy
    assert lines[0].endswith("is cri-dockerd 0.4.3")


@pytest.mark.engine
@pytest.mark.newest
def test_a_newer_containerd_is_described_as_far_as_it_tells(tmp_path: Path) -> None:
    """Status of 2.1 holds neither the sandbox image nor how images are pulled: nothing is claimed of either."""
    file = tmp_path / "config.toml"
    with containerd(system=unstable()) as runtime:
        file.write_text(f'backend = "cri"\n[backends.cri]\nendpoint = {json.dumps(runtime.endpoint)}\n')
        checked = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert checked.exit_code == 0, checked.output
    assert "is containerd 2." in checked.output
    assert "containerd does not tell how it pulls" in checked.output
    assert "marks it as pinned by itself" in checked.output


@pytest.mark.engine
def test_a_real_containerd_is_described_and_its_sandbox_image_shown_pinned(tmp_path: Path) -> None:
    """`config check` tells the pair, and one whose images are of another runtime is found; the list shows the pin."""
    need("busybox")
    file = tmp_path / "config.toml"
    with registry() as images:
        push_all(images)
        pause = f"{images.address}/pause:3.9"
        with containerd(sandbox_image=pause) as runtime, containerd() as stranger:
            text = f'backend = "cri"\n[backends.cri]\nendpoint = {json.dumps(runtime.endpoint)}\n'
            file.write_text(text)
            with criimage(text) as server:
                endpoint = f"--endpoint={server.endpoint}"
                pulled = CliRunner().invoke(main, ["pull", endpoint, pause])
                server.wait_for_log("sandbox image is pinned")
                listed = CliRunner().invoke(main, ["images", endpoint, "--output=json"])
            fine = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
            file.write_text(f"{text}[runtime]\nendpoint = {json.dumps(stranger.endpoint)}\n")
            apart = CliRunner().invoke(main, ["config", "check", "--config", str(file)])

    assert pulled.exit_code == 0, pulled.output
    assert [one["pinned"] for one in json.loads(listed.output)["images"]] == [True]
    assert fine.exit_code == 0, fine.output
    assert "is containerd 1.6" in fine.output
    assert "containerd pulls by itself" in fine.output
    assert f"its sandbox image is {pause}; it is pinned" in fine.output
    assert apart.exit_code == 1
    assert f"the runtime does not find images of the backend: {pause}" in apart.output
