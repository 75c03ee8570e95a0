"""Claims: behind containerd a pull shows its own bytes and layers, and only a registry's silence counts as a stall."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from criimage import wire
from criimage.backend import Phase, PullProgress
from criimage.reference import Name, Reference
from criimage.testing.oci import image, index, noise_layer
from criimage.testing.scripted_registry import Hang, ScriptedRegistry, Stage, scripted_registry
from criimage_cri import progress
from criimage_cri.attribution import Known, attribute
from criimage_cri.content import Blob, ContentService, Download, Manifest, read_manifest
from criimage_cri.progress import ProgressWatch
from parts.cri_backend import cri_backend, pull
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from parts.containerd import Containerd

MIB = 2**20
"""containerd writes what comes in pieces of this size."""
LARGE, SMALL, PART = 3 * MIB, 20_000, MIB


@pytest.fixture
def hub() -> Iterator[ScriptedRegistry]:
    with scripted_registry() as running:
        yield running


class Reports(list[PullProgress]):
    """What a pull reported."""

    @property
    def last(self) -> PullProgress:
        """The last report."""
        return self[-1]


@pytest.mark.engine
async def test_bytes_and_layers_of_one_pull(runtime: Containerd, hub: ScriptedRegistry) -> None:
    """Layers that come count by their bytes, complete ones as complete, those of another image as reused."""
    shared, small, large = noise_layer(SMALL, seed=1), noise_layer(SMALL, seed=2), noise_layer(LARGE, seed=3)
    first = hub.put(image(shared), "team/first", "1")
    name = hub.put(image(shared, small, large), "team/app", "1")
    hang = hub.script(Stage.LAYER, Hang(after=PART + 1000), reference=large.digest)
    reports = Reports()
    async with cri_backend(runtime.endpoint) as backend:
        await pull(backend, first)
        assert backend.reports_progress
        pulling = asyncio.create_task(pull(backend, name, report=reports.append))
        await until(lambda: reports and reports.last.bytes_done == len(small.data) + PART and reports.last.layers_done)
        seen = reports.last
        hang.release()
        await pulling

    assert seen.phase is Phase.DOWNLOADING
    assert (seen.layers_done, seen.layers_total, seen.layers_reused) == (1, 2, 1)
    assert seen.bytes_total == len(small.data) + len(large.data)
    assert reports.last.bytes_done == reports.last.bytes_total == seen.bytes_total
    assert reports.last.layers_done == 2


@pytest.mark.engine
async def test_the_first_pull_is_watched_too(runtime: Containerd) -> None:
    """Right after the start nobody has asked for anything yet: a pull that began then had no `progress_timeout`."""
    async with cri_backend(runtime.endpoint) as backend:
        await backend.resolve(Name.parse("reg.example/team/app:1"))
        assert backend.reports_progress


@pytest.mark.engine
async def test_pulls_at_once_have_each_their_own(runtime: Containerd, hub: ScriptedRegistry) -> None:
    """Two repositories, one pulled as an index by its digest: neither shows a byte of the other's."""
    one, other = image(noise_layer(LARGE, seed=4)), image(noise_layer(2 * LARGE, seed=5))
    both = index(other)
    hub.put(both, "team/other", "1")
    names = [hub.put(one, "team/one", "1"), f"{hub.address}/team/other@{both.digest}"]
    hangs = [
        hub.script(Stage.LAYER, Hang(after=part + 1000), reference=made.layers[0].digest)
        for made, part in ((one, PART), (other, 2 * PART))
    ]
    reports = [Reports(), Reports()]
    async with cri_backend(runtime.endpoint) as backend:
        pulls = [
            asyncio.create_task(pull(backend, name, report=told.append))
            for name, told in zip(names, reports, strict=True)
        ]
        # One piece of the larger one may come before the other.
        await until(lambda: [told.last.bytes_done for told in reports if told] == [PART, 2 * PART])
        seen = [(max(one.bytes_done for one in told), told.last.bytes_total) for told in reports]
        for hang in hangs:
            hang.release()
        await asyncio.gather(*pulls)

    assert seen == [(PART, len(one.layers[0].data)), (2 * PART, len(other.layers[0].data))]


@pytest.mark.engine
async def test_a_cancelled_pull_stops_at_the_registry(runtime: Containerd, hub: ScriptedRegistry) -> None:
    """The connection to the registry ends, and nothing of the image is stored."""
    made = image(noise_layer(LARGE, seed=6))
    name = hub.put(made, "team/app", "1")
    hang = hub.script(Stage.LAYER, Hang(after=PART + 1000))
    async with cri_backend(runtime.endpoint) as backend:
        pulling = asyncio.create_task(pull(backend, name))
        await hub.until(lambda: hang.reached)
        pulling.cancel()
        await asyncio.wait([pulling])
        await hub.until(lambda: not hub.open(Stage.LAYER))

        assert pulling.cancelled()
        assert await backend.images() == ()


# -- what no containerd shows on demand ------------------------------------------------------------------------------

X = Reference.parse("reg.example/team/app:1")
BEGAN = 100


def known(digest: str, touched: int, *names: str) -> Known:
    return Known(Manifest(digest, {}), touched, frozenset({digest, *names}))


def test_attribution_guesses_nothing() -> None:
    """A manifest is a pull's if it was touched since, and nobody else's; by digest, also through an index."""
    a, b = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    new, old = known(a, 150), known(b, 50)
    tag = (X, BEGAN)

    assert attribute({1: tag}, [new, old]) == {1: new.manifest}
    assert attribute({1: tag}, [old]) == {}
    assert attribute({1: tag}, [new, known(b, 160)]) == {}
    assert attribute({1: tag, 2: tag}, [new, known(b, 160)]) == {}
    # The one that began later cannot have what came before.
    later = known(b, 260)
    assert attribute({1: tag, 2: (X, 200)}, [new, later]) == {1: new.manifest, 2: later.manifest}
    # A digest decides; the pull by tag then has what is left.
    other = known(b, 160)
    both = {1: tag, 2: (X.with_digest(b), BEGAN)}
    assert attribute(both, [new, other]) == {1: new.manifest, 2: other.manifest}
    assert attribute(both, [other]) == {}
    assert attribute({2: (X.with_digest(b), BEGAN)}, [new, known(b, 160)]) == {2: Manifest(b, {})}
    listed = "sha256:" + "c" * 64
    assert attribute({2: (X.with_digest(listed), BEGAN)}, [known(a, 150, listed)]) == {2: new.manifest}


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"config": {}}', b'{"layers": 1}', b"\xff"])
def test_what_is_no_manifest_is_none(document: bytes) -> None:
    """Configs and layers lie in the same store; none of them stops the looking."""
    assert read_manifest("sha256:" + "a" * 64, document) is None


@dataclass
class WrittenContent:
    """A content service that has what a test writes into it."""

    running: dict[str, Download] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)

    async def downloads(self) -> dict[str, Download]:
        """See ContentService."""
        return dict(self.running)

    async def of_repository(self, host: str, path: str) -> list[Blob]:
        """See ContentService."""
        return [self.blobs[digest] for digest in self.manifests]

    async def among(self, digests: Iterable[str]) -> list[Blob]:
        """See ContentService."""
        return [self.blobs[digest] for digest in digests if digest in self.blobs]

    async def manifest(self, blob: Blob) -> Manifest | None:
        """See ContentService."""
        return self.manifests.get(blob.digest)

    def writes(self, ref: str, offset: int) -> None:
        """Has so many bytes of something."""
        self.running[ref] = Download(ref, offset, 0)

    def has(self, digest: str, manifest: Manifest | None = None) -> None:
        """Has something complete from now on."""
        now = 2**62
        self.blobs[digest] = Blob(digest, 10, now, now)
        if manifest is not None:
            self.manifests[digest] = manifest


async def test_only_the_registrys_silence_is_silence() -> None:
    """A report changes while containerd works, somebody's bytes may be ours, or fetching is out of sight; not else."""
    content, reports = WrittenContent(), Reports()
    watch = ProgressWatch(content)  # type: ignore[arg-type]  # the methods that it calls
    manifest, layer = "sha256:" + "a" * 64, "sha256:" + "b" * 64

    async def changes() -> bool:
        before = reports.last
        await watch.look()
        return reports.last != before

    async with watch.of(X, reports.append, ""):
        assert not await changes()  # nothing answers the request for the manifest
        content.writes("layer-sha256:other", 5)
        assert await changes()  # these bytes may be ours
        assert not await changes()
        content.has(manifest, Manifest(manifest, {layer: 10}))
        content.writes(f"layer-{layer}", 4)
        assert await changes()
        assert (reports.last.phase, reports.last.bytes_done) == (Phase.DOWNLOADING, 4)
        content.writes("layer-sha256:other", 6)
        assert not await changes()  # these are not
        del content.running[f"layer-{layer}"]
        assert await changes()
        assert await changes()  # out of sight, as by a remote snapshotter
        content.has(layer)
        assert await changes()
        assert (reports.last.phase, reports.last.layers_done) == (Phase.UNPACKING, 1)
        assert await changes()  # containerd unpacks


async def test_a_pull_by_an_indexs_digest_finds_its_manifest() -> None:
    """What a pull by digest fetches is what the index of that digest lists, and no other manifest that came since."""
    content = WrittenContent()
    watch = ProgressWatch(content)  # type: ignore[arg-type]  # the methods that it calls
    index, listed, other, layer = (f"sha256:{letter * 64}" for letter in "abcd")
    content.has(index, Manifest(index, {}, frozenset({listed})))
    content.has(listed, Manifest(listed, {layer: 10}))
    content.has(other, Manifest(other, {layer: 99}))
    content.writes(f"layer-{layer}", 4)
    by_index, by_other = Reports(), Reports()

    async with (
        watch.of(X.with_digest(index), by_index.append, ""),
        watch.of(X.with_digest(other), by_other.append, ""),
    ):
        await watch.look()
        assert (by_index.last.bytes_done, by_index.last.bytes_total) == (4, 10)
        assert by_other.last.bytes_total == 99


async def test_a_store_that_does_not_answer_is_no_silent_registry(runtime: Containerd) -> None:
    """A containerd that hangs while it pulls is told as a wait for the store."""
    from criimage.channel import Channel
    from criimage_cri import content as module
    from criimage_cri.content import ContentService

    reports = Reports()
    async with Channel(runtime.socket) as channel:
        watch = ProgressWatch(ContentService(channel))
        async with watch.of(X, reports.append, ""):
            with pytest.MonkeyPatch.context() as patch, runtime.frozen():
                patch.setattr(module, "_SECONDS", 0.2)
                await watch.look()
            await watch.look()
    assert [report.phase for report in reports] == [Phase.RESOLVING, Phase.WAITING_FOR_STORE, Phase.RESOLVING]


def test_the_figures_of_a_pull() -> None:
    """What comes counts by what is here of it, what has not begun for nothing, what was here before not at all."""
    reference = Reference.parse("a.example/x:1")
    manifest = Manifest("sha256:m", {"done": 10, "coming": 20, "waiting": 40, "reused": 80})
    one = progress._Pull(reference, lambda _: None, PullProgress(), manifest=manifest)
    one.here.update(done=False, reused=True)
    seen = progress._figures(one, {"coming": 5}, one.outstanding())
    assert (seen.phase, seen.bytes_done, seen.bytes_total) == (Phase.DOWNLOADING, 15, 70)
    assert (seen.layers_done, seen.layers_total, seen.layers_reused) == (1, 3, 1)
    one.here.update(coming=False, waiting=False)
    assert progress._figures(one, {}, one.outstanding()).phase is Phase.UNPACKING


class Listing:
    """Stands in for a channel to containerd: answers every call with one message, and keeps what it was asked for."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    async def stream(self, path: str, request: bytes, seconds: float, *, metadata: object) -> AsyncIterator[bytes]:
        """Answers."""
        self.asked.append(request)
        yield self.answer


async def test_no_digests_are_no_question() -> None:
    """Containerd would take no filter for all that it has; with some they are the filters."""
    info = wire.text_field(1, "sha256:a") + wire.varint_field(2, 5)
    listing = Listing(wire.length_delimited(1, info))
    content = ContentService(listing)  # type: ignore[arg-type]
    assert await content.among([]) == []
    assert listing.asked == []
    (found,) = await content.among(["sha256:a"])
    assert (found.digest, found.size) == ("sha256:a", 5)
    assert listing.asked == [wire.text_field(1, 'digest=="sha256:a"')]


async def test_a_time_of_the_store_is_one_of_the_clock() -> None:
    """Seconds and nanoseconds since the epoch, as one number: what a pull's beginning is compared with."""
    times = [wire.varint_field(1, seconds) + wire.varint_field(2, nanos) for seconds, nanos in ((5, 7), (6, 8))]
    info = wire.text_field(1, "sha256:a") + wire.varint_field(2, 5)
    info += b"".join(wire.length_delimited(number, one) for number, one in enumerate(times, 3))
    content = ContentService(Listing(wire.length_delimited(1, info)))  # type: ignore[arg-type]
    (blob,) = await content.among(["sha256:a"])
    assert (blob.size, blob.created, blob.updated) == (5, 5_000_000_007, 6_000_000_008)


@pytest.mark.parametrize(
    ("size", "counts"), [(0, True), (2**63 - 1, True), (2**63, False), (-1, False), (True, False), ("1", False)]
)
def test_a_size_that_no_field_can_have_is_none(size: object, counts: bool) -> None:
    """What a manifest says of a layer goes into sums and out in a message: an int64, and nothing below nothing."""
    document = json.dumps({"layers": [{"digest": "sha256:x", "size": size}]}).encode()
    found = read_manifest("sha256:m", document)
    assert found is not None
    assert bool(found.layers) == counts
