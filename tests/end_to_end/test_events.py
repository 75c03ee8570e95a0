"""Events of pods through the one socket, from containerds that have them: Debian 12's has not, the newer two do."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import grpc
import pytest

from criimage import wire
from parts.debian13 import debian13, unstable
from parts.one_socket import BUSYBOX, one_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from parts.one_socket import Node

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

SECONDS = 60.0
CREATED, STARTED, STOPPED, DELETED = range(4)


class Subscriber:
    """Takes what comes of a subscription in a thread of its own.

    Attributes:
        events: what came, in bytes.
    """

    def __init__(self, source: Iterable[bytes]) -> None:
        self.events: list[bytes] = []
        self._source = source
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        with suppress(grpc.RpcError):
            self.events.extend(self._source)

    def join(self) -> None:
        """Wait until the subscription is over."""
        self._thread.join()

    def seen(self) -> list[tuple[str, int]]:
        """Container and kind of every event."""
        return [about(event) for event in list(self.events)]


def about(event: bytes) -> tuple[str, int]:
    """The container or pod that an event is about, and its kind."""
    fields = {number: value for number, _, value in wire.fields(event)}
    identity, kind = fields[1], fields.get(2, CREATED)
    assert isinstance(identity, bytes)
    assert isinstance(kind, int)
    return identity.decode(), kind


@contextmanager
def subscribed(endpoint: str) -> Iterator[Subscriber]:
    with grpc.insecure_channel(endpoint) as channel:
        call = channel.unary_stream("/runtime.v1.RuntimeService/GetContainerEvents", bytes, bytes)(b"")
        subscriber = Subscriber(call)
        try:
            yield subscriber
        finally:
            call.cancel()  # type: ignore[no-untyped-call]
            subscriber.join()


@contextmanager
def shown_by_crictl(node: Node) -> Iterator[Subscriber]:
    """The lines that `crictl events` prints."""
    with subprocess.Popen(node.command("events"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        subscriber = Subscriber(process.stdout)
        try:
            yield subscriber
        finally:
            process.kill()
            subscriber.join()


def wait(what: Callable[[], bool]) -> None:
    """Waits until something is so."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "events are lost"
        time.sleep(0.01)


def let_all_begin(node: Node, *subscribers: Subscriber) -> None:
    """Makes pods until every subscriber has had an event."""
    end = time.monotonic() + SECONDS
    while not all(one.events for one in subscribers):
        assert time.monotonic() < end, "no events"
        pod, _ = node.run_pod("first")
        node.crictl("rmp", "-f", pod)


def a_life(node: Node) -> tuple[str, str]:
    """Run a pod, create, start and stop a container, remove both; return their IDs."""
    pod, file = node.run_pod("events")
    container = node.run_container(pod, file, "sleep 1000", "events-container")
    node.crictl("stop", "--timeout=0", container)
    node.crictl("rm", container)
    node.crictl("stopp", pod)
    node.crictl("rmp", pod)
    return pod, container


def life_of(*identities: str) -> list[tuple[str, int]]:
    """The events of these lives, sorted."""
    return sorted((identity, kind) for identity in identities for kind in (CREATED, STARTED, STOPPED, DELETED))


@pytest.mark.newest
def test_two_subscribers_each_get_every_event_of_a_real_runtime() -> None:
    """Both through the relay, byte for byte what a third gets directly; `crictl events` shows them too."""
    with one_socket(system=unstable()) as node:
        node.crictl("pull", BUSYBOX)
        with (
            subscribed(node.server.endpoint) as one,
            subscribed(node.server.endpoint) as other,
            subscribed(node.runtime.endpoint) as direct,
            shown_by_crictl(node) as shown,
        ):
            let_all_begin(node, one, other, direct, shown)
            pod, container = a_life(node)
            for subscriber in (one, other, direct):
                wait(lambda: (pod, DELETED) in subscriber.seen())  # noqa: B023 - waited for at once
            wait(lambda: any(pod.encode() in line for line in shown.events))
            # Status of 2.1 does not tell which it is: the runtime's own mark keeps a kubelet from collecting it.
            (pause,) = [one for one in node.json("images")["images"] if "/node/pause:" in one["repoTags"][0]]
            assert pause["pinned"]
            begin = [subscriber.seen().index((pod, CREATED)) for subscriber in (one, other, direct)]
            relayed, too, straight = (
                subscriber.events[start:] for subscriber, start in zip((one, other, direct), begin, strict=True)
            )

    assert sorted(map(about, straight)) == life_of(pod, container)
    assert relayed == too == straight


@pytest.mark.long
def test_subscribers_share_where_the_runtime_lets_them_share() -> None:
    """Of containerd 1.7 each event reaches one subscriber only: so it does here, and one alone gets all."""
    with one_socket(system=debian13()) as node:
        node.crictl("pull", BUSYBOX)
        with subscribed(node.server.endpoint) as alone:
            let_all_begin(node, alone)
            pod, container = a_life(node)
            wait(lambda: (pod, DELETED) in alone.seen())
            found = alone.seen()
            assert sorted(found[found.index((pod, CREATED)) :]) == life_of(pod, container)
            with subscribed(node.server.endpoint) as other:
                begin = len(found)
                pod, container = a_life(node)
                wait(lambda: len(alone.events) - begin + len(other.events) == len(life_of(pod, container)))
                assert sorted(alone.seen()[begin:] + other.seen()) == life_of(pod, container)
