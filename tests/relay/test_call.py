"""One relayed call by playbooks: what happens on either side in, what is done on the other out; no sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage.server.relay.call import RelayedCall, deadline_of, forwarded

if TYPE_CHECKING:
    from criimage.channel.header_blocks import Headers
    from criimage.channel.link import Listener

HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"x-raw", b"\xff")]
TRAILERS = [(b"grpc-status", b"0"), (b"x-bin", b"AAE")]


class Both:
    """Both sides of a call; notes what is done to them, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.ended: list[Status] = []
        self.call = RelayedCall(self, self.ended.append)
        self.runtime = _Runtime(self.done)

    def open(self, listener: Listener) -> _Runtime:
        """The runtime's side begins."""
        assert listener is self.call
        self.done.append(("open",))
        return self.runtime

    def send_headers(self, headers: Headers, *, ended: bool) -> None:
        """As CallerSide."""
        self.done.append(("headers", headers, ended))

    def send_data(self, data: bytes, size: int, *, ended: bool) -> None:
        """As CallerSide."""
        self.done.append(("data", data, size, ended))

    def reset(self, code: int) -> None:
        """As CallerSide."""
        self.done.append(("reset", code))

    def give_back(self, size: int) -> None:
        """As CallerSide."""
        self.done.append(("give back", size))

    def what_was_done(self) -> list[tuple[object, ...]]:
        """What was done since the last time."""
        done = self.done[:]
        self.done.clear()
        return done


class _Runtime:
    def __init__(self, done: list[tuple[object, ...]]) -> None:
        self.done = done

    def send(self, data: bytes, *, ended: bool = False) -> None:
        self.done.append(("up", data, ended))

    def acknowledge(self, size: int) -> None:
        self.done.append(("acknowledge", size))

    def reset(self, code: int = 8) -> None:
        self.done.append(("up reset", code))


def started() -> Both:
    both = Both()
    both.call.start(both.open)
    assert both.what_was_done() == [("open",)]
    return both


def status_sent(both: Both) -> tuple[str, str]:
    """The code and text of the one answer that was made here."""
    ((what, headers, ended),) = both.what_was_done()
    assert (what, ended) == ("headers", True)
    assert isinstance(headers, list)
    found = dict(headers)
    return found[b"grpc-status"].decode(), found[b"grpc-message"].decode()


def test_a_unary_call() -> None:
    """Request, answer and trailers pass as they are, and each side's window opens as the other takes."""
    both = started()
    call = both.call
    call.request_came(b"request", ended=False)
    call.request_came(b"", ended=True)
    call.request_taken(7)
    call.headers_came(HEADERS, ended=False)
    call.data_came(b"answer", 9, ended=False)
    call.answer_taken(9)
    call.headers_came(TRAILERS, ended=True)

    assert both.what_was_done() == [
        ("up", b"request", False),
        ("up", b"", True),
        ("give back", 7),
        ("headers", HEADERS, False),
        ("data", b"answer", 9, False),
        ("acknowledge", 9),
        ("headers", TRAILERS, True),
    ]
    assert both.ended == [Status.OK]


def test_both_sides_may_talk_at_once() -> None:
    """A stream of either kind needs no order between the two."""
    both = started()
    both.call.headers_came(HEADERS, ended=False)
    for number in range(3):
        both.call.request_came(b"%d" % number, ended=False)
        both.call.data_came(b"%d" % number, 1, ended=False)
    assert both.what_was_done()[1:] == [
        step for number in range(3) for step in (("up", b"%d" % number, False), ("data", b"%d" % number, 1, False))
    ]
    assert both.ended == []


def test_what_comes_before_the_runtime_is_known_is_kept_in_order() -> None:
    """A call that waits for the runtime's versions loses nothing."""
    both = Both()
    both.call.request_came(b"a", ended=False)
    both.call.request_came(b"b", ended=False)
    both.call.request_came(b"", ended=True)
    both.call.start(both.open)
    assert both.what_was_done() == [("open",), ("up", b"a", False), ("up", b"b", False), ("up", b"", True)]


def test_a_client_that_leaves_before_the_runtime_is_known() -> None:
    """Nothing is ever sent up for it."""
    both = Both()
    both.call.request_came(b"a", ended=True)
    both.call.caller_left()
    both.call.start(both.open)
    assert both.what_was_done() == []
    assert both.ended == [Status.CANCELLED]


def test_a_client_that_leaves() -> None:
    """The runtime is told once, and hears nothing more."""
    both = started()
    both.call.caller_left()
    both.call.caller_left()
    both.call.request_came(b"late", ended=True)
    assert both.what_was_done() == [("up reset", 8)]
    assert both.ended == [Status.CANCELLED]


@pytest.mark.parametrize(("code", "status"), [(8, Status.CANCELLED), (7, Status.UNAVAILABLE), (11, Status.UNAVAILABLE)])
def test_a_runtime_that_resets(code: int, status: Status) -> None:
    """The code passes as it is: a client knows by it whether it may try again."""
    both = started()
    both.call.was_reset(code, "")
    assert both.what_was_done() == [("reset", code)]
    assert both.ended == [status]


def test_a_runtime_whose_answer_cannot_be_passed_on() -> None:
    """A breach of HTTP/2 is told in words."""
    both = started()
    both.call.was_reset(11, "headers too large")
    assert status_sent(both) == ("13", "the runtime's answer cannot be passed on: headers too large")


def test_a_runtime_that_cannot_be_reached() -> None:
    """UNAVAILABLE with the reason, as an answer that a client of gRPC reads; and nothing is made up."""
    both = started()
    both.call.was_lost("cannot reach /run/x.sock: Connection refused")
    assert status_sent(both) == ("14", "cannot reach /run/x.sock: Connection refused")
    assert both.ended == [Status.UNAVAILABLE]


def test_a_runtime_that_is_lost_in_the_middle() -> None:
    """After headers there can only be trailers."""
    both = started()
    both.call.headers_came(HEADERS, ended=False)
    both.call.data_came(b"half", 4, ended=False)
    both.what_was_done()
    both.call.was_lost("lost")
    ((_, trailers, ended),) = both.what_was_done()
    assert isinstance(trailers, list)
    assert (dict(trailers).get(b":status"), ended) == (None, True)


def test_a_deadline_that_nobody_else_kept() -> None:
    """The runtime is told to stop and the client gets its answer; a call that is over is left alone."""
    both = started()
    both.call.deadline_passed()
    what, answer = both.what_was_done()
    assert what == ("up reset", 8)
    assert dict(answer[1])[b"grpc-status"] == b"4"  # type: ignore[call-overload]
    both.call.deadline_passed()
    both.call.server_stops()
    assert both.what_was_done() == []
    assert both.ended == [Status.DEADLINE_EXCEEDED]


def test_a_server_that_stops() -> None:
    """Calls without an end of their own get one that says why."""
    both = started()
    both.call.headers_came(HEADERS, ended=False)
    both.call.server_stops()
    assert both.ended == [Status.UNAVAILABLE]


@pytest.mark.parametrize("text", ["a\nb", "ä%\0", "x" * 9000])
def test_texts_of_our_own_fit_in_a_header(text: str) -> None:
    """Whatever a reason holds, the client gets an answer."""
    both = started()
    both.call.was_lost(text)
    _, message = status_sent(both)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) <= 2000 * 3


def test_metadata_goes_up_as_it_came() -> None:
    """All of it in order, bytes that are no text and gRPC's own too; only what is the connection's is replaced."""
    headers = [
        (b":method", b"POST"),
        (b":path", b"/old"),
        (b":authority", b"/run/criimage.sock"),
        (b"te", b"trailers"),
        (b"grpc-timeout", b"1999999u"),
        (b"grpc-encoding", b"gzip"),
        (b"traceparent", b"00-a-b-01"),
        (b"x", b"1"),
        (b"x", b"\xff\xfe"),
        (b"host", b"a"),
        (b"x-bin", b"AA"),
        (b"user-agent", b"kubelet"),
    ]
    assert forwarded(headers, b"/new") == [
        (b":method", b"POST"),
        (b":path", b"/new"),
        (b":authority", b"localhost"),
        *(header for header in headers[3:] if header[0] != b"host"),
    ]


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"5S", 5.0), (b"1500m", 1.5), (b"2H", 7200.0), (b"0n", 0.0), (b"9", None), (b"-1S", None)]
)
def test_deadlines(value: bytes, seconds: float | None) -> None:
    """Ours is for clients that do not keep their own; one that cannot be read is the runtime's to judge."""
    assert deadline_of([(b"grpc-timeout", value)]) == seconds
    assert deadline_of([]) is None
