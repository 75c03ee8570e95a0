"""From the messages of a pull to its progress (docker P10, P17-P19)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from criimage.backend import Phase, PullProgress
from criimage_docker.pulling.download_queue import DownloadQueue
from criimage_docker.pulling.progress import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable


def message(status: str, layer: str = "", current: int | None = None, total: int | None = None) -> dict[str, Any]:
    detail = {key: value for key, value in (("current", current), ("total", total)) if value is not None}
    return {"status": status, "progressDetail": detail} | ({"id": layer} if layer else {})


def followed(messages: Iterable[dict[str, Any]]) -> list[PullProgress]:
    seen: list[PullProgress] = []
    tracker = Tracker(seen.append, DownloadQueue().enter())
    tracker.start()
    for one in messages:
        tracker.see(one)
    return seen


# A time at which nothing has moved yet, nor ever will have.
FAR = math.inf

# As 20.10 sent them for two layers, one of them tiny.
SEEN = [
    {"status": "Pulling from lib/busybox", "id": "1"},
    message("Pulling fs layer", "aa"),
    message("Pulling fs layer", "bb"),
    message("Downloading", "aa", 95, 95),
    message("Verifying Checksum", "aa"),
    message("Download complete", "aa"),
    message("Extracting", "aa", 95, 95),
    message("Downloading", "bb", 36445, 3001171),
    message("Verifying Checksum", "bb"),
    message("Download complete", "bb"),
    message("Pull complete", "aa"),
    message("Extracting", "bb", 32768, 3001171),
    message("Extracting", "bb", 3001171, 3001171),
    message("Pull complete", "bb"),
    {"status": "Digest: sha256:33"},
    {"status": "Status: Downloaded newer image for lib/busybox:1"},
]


def test_a_pull_of_two_layers() -> None:
    """P10: bytes, layers and phases as they go."""
    seen = followed(SEEN)
    told = {(one.phase, one.bytes_done, one.bytes_total, one.layers_done, one.layers_total) for one in seen}

    assert (Phase.DOWNLOADING, 95, None, 0, 2) in told
    assert (Phase.DOWNLOADING, 95 + 36445, 95 + 3001171, 1, 2) in told
    assert (Phase.UNPACKING, 3001266, 3001266, 2, 2) in told
    assert [one.activity for one in seen] == sorted({one.activity for one in seen})
    assert seen[-1].layers_reused is None


def test_a_repeated_message_is_no_work() -> None:
    """P19: the same layer with the same status and number changes nothing, and is not reported."""
    before = followed(SEEN[:8])
    after = followed(SEEN[:8] + [message("Downloading", "bb", 36445, 3001171)] * 600)

    assert after == before


def test_another_layer_in_between_makes_it_no_work_either() -> None:
    """P19: what counts is each layer's own last message."""
    two = [message("Downloading", "aa", 1, 10), message("Downloading", "bb", 2, 10)]

    assert followed(two * 100) == followed(two)


def test_a_retry() -> None:
    """P12, P19: the seconds that are counted down are work; bytes never become fewer."""
    seen = followed(
        [
            message("Pulling fs layer", "aa"),
            message("Downloading", "aa", 500, 1000),
            *(message(f"Retrying in {left} seconds", "aa") for left in (3, 2, 1)),
            message("Downloading", "aa", 100, 1000),
            message("Downloading", "aa", 900, 1000),
        ]
    )

    assert [one.bytes_done for one in seen] == [0, 0, 500, 500, 500, 500, 500, 900]
    assert len({one.activity for one in seen}) == len(seen)


def test_a_layer_that_never_tells_its_size() -> None:
    """The containerd store may say no more than "complete": then the total is unknown, and the layers are."""
    seen = followed(
        [
            message("Pulling fs layer", "aa"),
            message("Pulling fs layer", "bb"),
            {"status": "Download complete", "progressDetail": {"hidecounts": True}, "id": "aa"},
            {"status": "Download complete", "progressDetail": {"hidecounts": True}, "id": "bb"},
        ]
    )

    assert (seen[-1].bytes_total, seen[-1].layers_done, seen[-1].layers_total) == (None, 2, 2)
    assert seen[-1].phase is Phase.UNPACKING


@pytest.mark.parametrize("total", [None, 0, -1])
def test_a_total_that_is_none(total: int | None) -> None:
    """Nothing is promised of a size that the engine does not know, and all that came counts (P18)."""
    seen = followed([message("Downloading", "aa", 95, total), message("Downloading", "aa", 98, total)])

    assert (seen[-1].bytes_done, seen[-1].bytes_total) == (98, None)
    assert followed([message("Downloading", "aa", 95, total), message("Download complete", "aa")])[-1].bytes_done == 95


def test_layers_that_are_here() -> None:
    """P10: they count as reused, whether they were announced first or not."""
    seen: list[PullProgress] = []
    tracker = Tracker(seen.append, DownloadQueue().enter())
    for one in (
        message("Already exists", "aa"),
        message("Pulling fs layer", "bb"),
        message("Already exists", "bb"),
        {"status": "Status: Image is up to date for x"},
    ):
        tracker.see(one)
    tracker.finish()

    assert (seen[-1].layers_reused, seen[-1].layers_total, seen[-1].unchanged) == (2, 0, True)


def test_while_it_unpacks_the_engines_pulse_counts() -> None:
    """P18: unpacking has no deadline as long as the engine lives."""
    seen: list[PullProgress] = []
    tracker = Tracker(seen.append, DownloadQueue().enter())
    for one in SEEN[:8]:
        tracker.see(one)
    unpacking = [tracker.unpacks]
    for one in SEEN[8:10]:
        tracker.see(one)
    unpacking.append(tracker.unpacks)
    before = seen[-1].activity
    tracker.alive()

    assert unpacking == [False, True]
    assert seen[-1].activity == before + 1
    assert seen[-1].phase is Phase.UNPACKING


def test_when_all_is_unpacked_silence_is_no_work() -> None:
    """P18: what may still be missing then is the config, on which a registry can hang."""
    tracker = Tracker(lambda progress: None, DownloadQueue().enter())
    for one in SEEN[:-2]:
        tracker.see(one)

    assert not tracker.unpacks


def test_the_digest_that_the_registry_answered() -> None:
    """Unknown until the engine tells it, at the end of the stream."""
    tracker = Tracker(lambda progress: None, DownloadQueue().enter())
    before = tracker.digest
    for one in SEEN:
        tracker.see(one)

    assert (before, tracker.digest) == ("", "sha256:33")


def test_layers_that_nobody_mentions() -> None:
    """P10: what the image has besides the layers that were fetched was here."""
    seen: list[PullProgress] = []
    tracker = Tracker(seen.append, DownloadQueue().enter())
    tracker.see(message("Download complete", "aa"))
    tracker.finish(3)

    assert (seen[-1].layers_reused, seen[-1].layers_total) == (2, 1)
    tracker.finish(1)
    assert seen[-1].layers_reused == 0
    tracker.finish()
    assert seen[-1].layers_reused == 0


# -- waiting for others -----------------------------------------------------------------------------------------------


def announced(queue: DownloadQueue, *layers: str, waiting: bool) -> Tracker:
    """A pull whose layers the engine has taken note of."""
    tracker = Tracker(lambda progress: None, queue.enter())
    for one in layers:
        tracker.see(message("Pulling fs layer", one))
    for one in layers if waiting else ():
        tracker.see(message("Waiting", one))
    return tracker


def test_who_waits_for_anothers_download() -> None:
    """P21: nothing but `Waiting` behind another's layers is no standstill; one layer that had its turn makes it one."""
    queue = DownloadQueue()
    first = announced(queue, "a", "b", waiting=False)
    second = announced(queue, "c", "d", waiting=True)
    waits = [first.waits(FAR), second.waits(FAR)]
    for one in ("a", "b"):
        first.see(message("Download complete", one))
    waits.append(second.waits(FAR))
    third = announced(queue, "e", waiting=True)
    second.see(message("Downloading", "c", 1, 10))
    waits += [second.waits(FAR), third.waits(FAR)]
    second.see(message("Retrying in 5 seconds", "d"))
    waits.append(second.waits(FAR))

    assert waits == [False, True, False, False, True, False]


def test_a_layer_that_is_tried_again_waits_for_nobody() -> None:
    """P19, P21: it has had its turn, so the registry is what it waits for."""
    queue = DownloadQueue()
    announced(queue, "a", waiting=False)
    second = announced(queue, "b", waiting=True)
    before = second.waits(FAR)
    second.see(message("Retrying in 5 seconds", "b"))

    assert (before, second.waits(FAR)) == (True, False)


def test_waiting_for_others_is_told() -> None:
    """P21: the phase says that the engine keeps it waiting, not the registry; its own next message ends that."""
    queue = DownloadQueue()
    seen: list[Phase] = []
    first = announced(queue, "a", waiting=False)
    second = Tracker(lambda progress: seen.append(progress.phase), queue.enter())
    second.see(message("Pulling fs layer", "b"))
    second.see(message("Waiting", "b"))
    second.waits(FAR)
    second.alive()
    told = seen[-1]
    second.see(message("Downloading", "b", 1, 10))
    begun = seen[-1]
    second.see(message("Waiting", "c"))
    first.see(message("Download complete", "a"))
    second.waits(FAR)

    assert (told, begun, seen[-1]) == (Phase.WAITING_FOR_STORE, Phase.DOWNLOADING, Phase.DOWNLOADING)


def test_of_two_that_wait_only_the_later_one_waits_for_the_other() -> None:
    """P21: or two that hang before their first byte, of which the engine says nothing else, would wait for ever."""
    queue = DownloadQueue()
    first = announced(queue, "a", waiting=True)
    second = announced(queue, "b", waiting=True)

    assert (first.waits(FAR), second.waits(FAR)) == (False, True)


def test_one_that_came_at_the_same_time_counts_while_it_moves() -> None:
    """P21: two streams may tell in another order than the engine did things."""
    queue = DownloadQueue()
    first = announced(queue, "a", waiting=True)
    second = announced(queue, "b", waiting=False)
    before = first.waits(0.5)
    second.see(message("Downloading", "b", 1, 10))

    assert (before, first.waits(0.5), first.waits(FAR)) == (False, True, False)


def test_a_layer_of_both_is_one_transfer() -> None:
    """P21: the layer that both want is nothing to wait for behind itself."""
    queue = DownloadQueue()
    announced(queue, "a", waiting=True)

    assert not announced(queue, "a", waiting=True).waits(FAR)


def test_what_is_no_message_of_ours() -> None:
    """A4: whatever stands in a message, nothing breaks."""
    odd: list[dict[str, Any]] = [
        {},
        {"status": None, "id": "aa"},
        {"status": "Downloading", "id": "aa", "progressDetail": None},
        {"status": "Downloading", "id": "aa", "progressDetail": {"current": "x", "total": -1}},
        {"id": 5, "status": "Pull complete"},
        {"status": ["a"]},
        {"aux": {"ID": "sha256:1"}},
    ]

    assert followed(odd)
