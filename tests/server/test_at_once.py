"""Claims: a call that is answered at once is answered, counted and cleared away as one that has a task.

Each claim is shown by feeding the same bytes to two servers (`two_ways`), one of which never takes the short way.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parts.raw_client import framed
from parts.two_ways import Sender, serve
from server.methods import LIST, PULL, STATUS, spec

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "/runtime.v1.RuntimeService/Version"
RUNTIME_STATUS = "/runtime.v1.RuntimeService/Status"
USAGE_V1ALPHA2 = "/runtime.v1alpha2.ImageService/ImageFsInfo"
HEALTH = "/grpc.health.v1.Health/Check"
KNOWN, UNKNOWN, WRONG = spec("example.com/a:1"), spec("example.com/none:1"), spec("A B")
VERBOSE = KNOWN + b"\x10\x01"

A_CALL: tuple[object, ...] = ("call", ((STATUS, KNOWN), {}))
OLD_STREAM = (("update of an old stream", 0), ("update of an old stream", 0), ("unknown", 0))
NO_WINDOW = ("initial window", 0)
TABLE_TWICE = (("table", 0), ("table", 100), ("table", 100))
FORBIDDEN: tuple[object, ...] = ("odd frame", (6, 0, 0, 7))
"""A ping of seven bytes, which ends the connection."""

_CALLS = st.tuples(
    st.sampled_from(
        [
            (STATUS, KNOWN),
            (STATUS, KNOWN),
            (STATUS, UNKNOWN),
            (STATUS, WRONG),
            (STATUS, VERBOSE),
            (STATUS, b"\xff\xff"),
            (LIST, b""),
            (VERSION, b""),
            (RUNTIME_STATUS, b""),
            (HEALTH, b""),
            (HEALTH, b"\x0a\x04none"),
            (PULL, KNOWN),
            ("/runtime.v1.ImageService/Nothing", b""),
            (STATUS, KNOWN + b"\x7a" + b"\xd0\x0f" + b"x" * 2000),
        ]
    ),
    st.sampled_from(
        [
            {},
            {},
            {},
            {"grpc-timeout": "10S"},
            {"grpc-timeout": "9999999u"},
            {"grpc-timeout": "0n"},
            {"grpc-timeout": "soon"},
            {"x-note": "café".encode()},
            {"x-note-bin": "!"},
            {"x-note-bin": "YQ"},
            {"content-type": "application/grpc+proto"},
            {"content-type": "text/plain"},
            {":method": "GET"},
            {"user-agent": "u" * 700},
            {"grpc-encoding": "gzip"},
            {"content-length": "1"},
        ]
    ),
)

_ACTS = st.one_of(
    st.tuples(st.just("call"), _CALLS),
    st.tuples(st.just("call"), _CALLS),
    st.tuples(st.just("call"), _CALLS),
    st.tuples(st.just("pieces"), st.sampled_from([(STATUS, KNOWN), (VERSION, b"")]), st.integers(0, 12)),
    st.tuples(st.just("interleaved"), _CALLS, _CALLS),
    st.tuples(st.just("with windows"), _CALLS, st.sampled_from([1, 5, 5, 2**31 - 1]), st.booleans()),
    st.tuples(st.just("among others"), _CALLS, st.sampled_from(["ping", "window", "reset", "setting", "priority"])),
    st.tuples(
        st.just("odd frame"), st.sampled_from([(6, 0, 0, 7), (6, 1, 0, 8), (8, 0, 0, 4), (8, 9, 0, 3), (6, 0, 1, 8)])
    ),
    st.tuples(st.just("no data"), st.sampled_from([STATUS, VERSION])),
    st.tuples(st.just("wrong length"), st.integers(0, 40)),
    st.tuples(st.just("compressed"), st.just(0)),
    st.tuples(st.just("two messages"), st.just(0)),
    st.tuples(st.just("reset"), st.just(0)),
    st.tuples(st.just("ping"), st.just(0)),
    st.tuples(st.just("window"), st.integers(1, 500)),
    st.tuples(st.just("initial window"), st.sampled_from([0, 10, 100, 65_535, 2**20])),
    st.tuples(st.just("frame size"), st.sampled_from([16_384, 20_000])),
    st.tuples(st.just("table"), st.sampled_from([0, 100, 4096])),
    st.tuples(st.just("update of an old stream"), st.just(0)),
    st.tuples(st.just("priority"), st.just(0)),
    st.tuples(st.just("unknown"), st.just(0)),
)


def _bytes(acts: list[tuple[object, ...]]) -> tuple[bytes, list[int]]:  # noqa: C901 - one act after the other
    """Return a client's bytes, and where in them each act begins."""
    sender = Sender()
    sender.call(VERSION, b"")
    begins = []
    for kind, *rest in acts:
        begins.append(len(sender.out))
        match kind, *rest:
            case "call", ((str(path), bytes(message)), dict(changes)):
                sender.call(path, message, changes)
            case "pieces", (str(path), bytes(message)), int(cut):
                stream = sender.begin(path)
                body = b"\0" + len(message).to_bytes(4, "big") + message
                sender.data(stream, body[:cut], end=False)
                sender.data(stream, body[cut:], end=True)
            case "interleaved", ((str(path), bytes(message)), dict(changes)), ((str(other), bytes(body)), dict(more)):
                first, second = sender.begin(path, changes), sender.begin(other, more)
                sender.data(first, b"\0" + len(message).to_bytes(4, "big") + message, end=True)
                sender.data(second, b"\0" + len(body).to_bytes(4, "big") + body, end=True)
            case "with windows", ((str(path), bytes(message)), dict(changes)), int(size), bool(odd):
                stream = sender.begin(path, changes)
                sender.frame(8, 0, stream, (0 if odd else size).to_bytes(4, "big"))
                sender.data(stream, framed(message), end=True)
                sender.frame(8, 0, 0, b"\0\0\0\x09")
            case "among others", ((str(path), bytes(message)), dict(changes)), str(other):
                stream = sender.begin(path, changes)
                kind, number, body = {
                    "ping": (6, 0, b"87654321"),
                    "window": (8, 0, b"\0\0\0\x07"),
                    "reset": (3, stream, b"\0\0\0\x08"),
                    "setting": (4, 0, b"\0\x04" + (3000).to_bytes(4, "big")),
                    "priority": (2, 1, b"\0\0\0\0\x10"),
                }[other]
                sender.frame(kind, 0, number, body)
                sender.data(stream, framed(message), end=True)
            case "odd frame", (int(kind), int(flags), int(stream), int(size)):
                sender.frame(kind, flags, stream, bytes(size))
            case "no data", str(path):
                sender.data(sender.begin(path), b"", end=True)
            case "wrong length", int(length):
                sender.data(sender.begin(STATUS), b"\0" + length.to_bytes(4, "big") + KNOWN, end=True)
            case "compressed", _:
                sender.data(sender.begin(STATUS), b"\1" + len(KNOWN).to_bytes(4, "big") + KNOWN, end=True)
            case "two messages", _:
                sender.data(sender.begin(STATUS), (b"\0" + len(KNOWN).to_bytes(4, "big") + KNOWN) * 2, end=True)
            case "reset", _:
                sender.frame(3, 0, sender.begin(STATUS), b"\0\0\0\x08")
            case "ping", _:
                sender.frame(6, 0, 0, b"12345678")
            case "window", int(size):
                sender.frame(8, 0, 0, size.to_bytes(4, "big"))
            case "initial window", int(size):
                sender.setting(4, size)
            case "frame size", int(size):
                sender.setting(5, size)
            case "table", int(size):
                sender.setting(1, size)
            case "update of an old stream", _:
                sender.frame(8, 0, 1, b"\0\0\0\x05")
            case "priority", _:
                sender.frame(2, 0, 1, b"\0\0\0\0\x10")
            case "unknown", _:
                sender.frame(99, 0, 0, b"x")
            case _:
                raise ValueError(kind)
    begins.append(len(sender.out))
    # In the end everything may be sent.
    sender.setting(4, 2**20)
    sender.frame(8, 0, 0, (2**20).to_bytes(4, "big"))
    # And whatever is to be told with the next header block is told: an answer may have come before or after a setting.
    sender.call("/none.Service/None", b"")
    return bytes(sender.out), begins


def _reads(data: bytes, cuts: set[int]) -> list[bytes]:
    places = sorted({0, len(data), *cuts})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


@pytest.mark.timeout(900)  # to make an example small takes up to five minutes; without it nobody knows what failed
@settings(max_examples=150, deadline=None)
@example([A_CALL, ("table", 0), ("table", 0)], [True, False], [], [0], 0)
@example([("two messages", 0), A_CALL, A_CALL, A_CALL, FORBIDDEN], [True, False, False, False], [], [0, 3], 0)
@example([A_CALL, ("odd frame", (6, 1, 0, 8)), *TABLE_TWICE], [False, False, False, True], [], [0], 0)
@example(
    [A_CALL, ("initial window", 0), TABLE_TWICE[0], A_CALL, *TABLE_TWICE[1:]], [False, False, False, True], [], [0], 0
)
@example([A_CALL, ("initial window", 0), A_CALL, ("wrong length", 40)], [False], [10**6], [0], 0)
@example(
    [("ping", 0), *OLD_STREAM, ("window", 1), A_CALL, A_CALL, ("with windows", A_CALL[1], 1, False)],
    [False],
    [302],
    [1],
    0,
)
@given(
    st.lists(_ACTS, max_size=16),
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.lists(st.integers(0, 10**6), max_size=3),
    st.lists(st.sampled_from([0, 0, 0, 1, 3]), min_size=1, max_size=4),
    st.sampled_from([0, 1, 5]),
)
def test_both_ways_are_the_same(
    acts: list[tuple[object, ...]], begun: list[bool], cuts: list[int], turns: list[int], pauses: int
) -> None:
    """Whatever comes, however it is cut into reads, wherever the backend waits: equal answers, figures and state."""
    data, begins = _bytes(acts)
    # Reads that begin with an act, the first one always, and some that begin anywhere.
    places = {begins[0], *(place for n, place in enumerate(begins) if begun[n % len(begun)])}
    reads = _reads(data, places | {cut % len(data) for cut in cuts})

    async def both() -> int:
        long = await serve(reads, turns, pauses, at_once=False)
        short = await serve(reads, turns, pauses, at_once=True)
        assert not long.at_once
        assert short.state["closed"] == long.state["closed"]
        if long.state["closed"]:
            answered = {stream: answer for stream, answer in long.answers.items() if stream}
            if len(set(turns)) > 1:
                # The backend's waits go by the order in which it is asked, and a call that is taken at once asks before
                # one that is not: whose answer the end leaves out is not the same.
                answered = {stream: answer for stream, answer in answered.items() if stream in short.answers}
            # What came in the same read as the bytes that ended the connection is lost on the long way; what window an
            # answer meets in that read decides how much of it went before the end.
            assert answered.keys() <= short.answers.keys()
            for stream, answer in answered.items():
                other = short.answers[stream]
                assert answer == other[: len(answer)] or other == answer[: len(other)]
            return short.at_once
        assert short.answers == long.answers
        assert short.observed == long.observed
        # A check answers all who were waiting for it to begin, and who that is goes by the turns.
        asked = [Counter(way.calls) for way in (short, long)]
        checks = [bool(calls.pop("check", 0)) for calls in asked]
        assert checks[0] == checks[1]
        assert asked[0] == asked[1]
        # Behind a call in one read there may be another table size for answers: the answer that comes later tells it.
        untold = [way.state.pop("not told yet") for way in (short, long)]
        assert untold[1] in ([], untold[0])
        assert short.state == long.state
        return short.at_once

    asyncio.run(both())


@pytest.mark.parametrize("increment", [1, 2**31 - 1 - 65_535, 2**31 - 65_535, 2**31 - 1])
def test_a_window_at_its_edge(increment: int) -> None:
    """A window may hold 2**31 - 1 and not one more, on both ways alike (RFC 9113, 6.9.1)."""
    sender = Sender()
    sender.call(VERSION, b"")
    hello = bytes(sender.out)
    sender.out.clear()
    sender.frame(8, 0, 0, increment.to_bytes(4, "big"))
    sender.call(STATUS, KNOWN)

    async def both() -> None:
        short, long = [await serve([hello, bytes(sender.out)], [0], 0, at_once=each) for each in (True, False)]
        assert short.state == long.state
        assert short.answers == long.answers

    asyncio.run(both())


def _as_grpcio(path: str, message: bytes, sender: Sender) -> None:
    """What grpcio writes for each call: updates of both windows stand between headers and data, and after them."""
    stream = sender.begin(path)
    sender.frame(8, 0, stream, b"\0\0\0\x05")
    sender.data(stream, framed(message), end=True)
    sender.frame(8, 0, 0, b"\0\0\0\x19")


def _as_grpc_go(path: str, message: bytes, sender: Sender) -> None:
    """What grpc-go writes for two calls at once, with the ping that it measures the way with."""
    first, second = sender.begin(path), sender.begin(path)
    sender.data(first, framed(message), end=True)
    sender.frame(6, 0, 0, b"\2\4\x10\x10\x09\x0e\7\7")
    sender.data(second, framed(message), end=True)


@pytest.mark.parametrize(("write", "calls"), [(_as_grpcio, 1), (_as_grpc_go, 2)])
def test_what_clients_write_takes_the_short_way(write: Callable[[str, bytes, Sender], None], calls: int) -> None:
    """Nothing of what grpcio and grpc-go write for their calls goes to h2, once the connection is set up."""
    sender = Sender()
    sender.call(VERSION, b"")
    hello, reads = bytes(sender.out), []
    for path, message in ((VERSION, b""), (STATUS, KNOWN), (STATUS, UNKNOWN)) * 3:
        sender.out.clear()
        write(path, message, sender)
        reads.append(bytes(sender.out))
    seen = asyncio.run(serve([hello, *reads], [0], 0, at_once=True))
    assert seen.at_once == calls * len(reads)
    assert seen.left == 1
    assert len(seen.answers) == calls * len(reads) + 1


@pytest.mark.parametrize("together", [True, False], ids=["one read", "a read each"])
def test_ordinary_calls_take_the_short_way(together: bool) -> None:
    """The comparison above compares something: all of these but the first of the connection are answered at once."""
    sender = Sender()
    sender.call(VERSION, b"")
    hello, calls = bytes(sender.out), []
    for path, message, changes in (
        (STATUS, KNOWN, {}),
        (STATUS, KNOWN, {}),
        (STATUS, UNKNOWN, {"grpc-timeout": "9999999u"}),
        (LIST, b"", {"grpc-timeout": "9999998u"}),
        (USAGE_V1ALPHA2, b"", {}),
    ):
        sender.out.clear()
        sender.call(path, message, changes)
        calls.append(bytes(sender.out))
    reads = [hello, b"".join(calls)] if together else [hello, *calls]
    seen = asyncio.run(serve(reads, [0], 0, at_once=True))
    assert seen.at_once == len(calls)
    assert len(seen.answers) == len(calls) + 1
