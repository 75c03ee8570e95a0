"""Sequences of frames around ordinary calls, legal and forbidden, and what must come of each (RFC 9113)."""

from __future__ import annotations

from dataclasses import dataclass, field

from attack.call_frames import BLOCK, EMPTY, VERSION, block, call, data, headers, on, reset, setting, window
from attack.target import HEALTH, LIST
from parts.raw_client import framed
from parts.wire_client import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    SETTINGS,
    WITH_PRIORITY,
    literal,
)

# HTTP/2's codes.
PROTOCOL, FLOW, CLOSED, SIZE, COMPRESSION = 1, 3, 5, 6, 9


@dataclass(frozen=True, slots=True)
class Sequence:
    """What is sent, and what must come of it.

    Attributes:
        sent: in pieces, each of which is read by itself mostly.
        answered: streams that are answered with OK.
        ends: streams that end, in whatever way.
        fails: the connection's end: codes of which one is told; it must go on if there is none.
    """

    sent: tuple[bytes, ...]
    answered: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    fails: frozenset[int] = field(default_factory=frozenset)


def _legal(*sent: bytes, answered: tuple[int, ...] = (1, 3, 5), ends: tuple[int, ...] = ()) -> Sequence:
    return Sequence(sent, answered, ends)


def _illegal(*sent: bytes, fails: tuple[int, ...], answered: tuple[int, ...] = (1,)) -> Sequence:
    return Sequence(sent, answered, fails=frozenset(fails))


_ODD = block(VERSION, literal("x-odd", "1"))
_INDEXED = block(first=0x40)
# All six of them, the last one that was added first in the table.
_AGAIN = bytes(range(0xBE + 5, 0xBE - 1, -1))
_HALF = len(_ODD) // 2
_PRIORITY = b"\0\0\0\0\x10"


SEQUENCES: dict[str, Sequence] = {
    "the table is emptied and filled again": _legal(
        call(1) + headers(3, b"\x20" + BLOCK) + data(3) + headers(5, b"\x3f\xe1\x1f" + BLOCK) + data(5)
    ),
    "the table's size changes twice in a block": _legal(
        headers(1, _INDEXED)
        + data(1)
        + headers(3, b"\x20\x3f\xe1\x1f" + _INDEXED)
        + data(3)
        + headers(5, _AGAIN)
        + data(5)
    ),
    "a block means what an earlier one has put into the table": _legal(
        headers(1, _INDEXED) + data(1), headers(3, _AGAIN) + data(3) + headers(5, _AGAIN) + data(5)
    ),
    "a block of entries that are gone": _illegal(
        headers(1, _INDEXED)
        + data(1)
        + headers(3, _AGAIN)
        + data(3)
        + headers(5, b"\x20" + BLOCK)
        + data(5)
        + headers(7, _AGAIN)
        + data(7),
        answered=(1, 3, 5),
        fails=(COMPRESSION, PROTOCOL),
    ),
    "the table grows beyond what was allowed": _illegal(
        call(1) + headers(3, b"\x3f\xe2\x1f" + BLOCK) + data(3), fails=(COMPRESSION, PROTOCOL)
    ),
    "the table's size changes in the midst of a block": _illegal(
        call(1) + headers(3, BLOCK + b"\x20") + data(3), fails=(COMPRESSION, PROTOCOL)
    ),
    "a block that is cut short": _illegal(call(1) + headers(3, BLOCK[:-4]) + data(3), fails=(COMPRESSION, PROTOCOL)),
    "headers that may never be put into a table": _legal(
        headers(1, block(first=0x10)) + data(1) + headers(3, block(first=0x10)) + data(3) + call(5)
    ),
    "a continuation": _legal(
        call(1) + headers(3, _ODD[:_HALF], 0) + on(CONTINUATION, END_HEADERS, 3, _ODD[_HALF:]) + data(3) + call(5)
    ),
    "a continuation in another read": _legal(
        call(1) + headers(3, _ODD[:_HALF], 0), on(CONTINUATION, END_HEADERS, 3, _ODD[_HALF:]), data(3) + call(5)
    ),
    "empty continuations": _legal(
        call(1)
        + headers(3, b"", 0)
        + on(CONTINUATION, 0, 3) * 5
        + on(CONTINUATION, END_HEADERS, 3, BLOCK)
        + data(3)
        + call(5)
    ),
    "a call inside a continuation": _illegal(
        call(1) + headers(3, _ODD[:_HALF], 0) + call(5) + on(CONTINUATION, END_HEADERS, 3, _ODD[_HALF:]) + data(3),
        fails=(PROTOCOL,),
    ),
    "padding": _legal(
        headers(1, b"\x07" + BLOCK + bytes(7), END_HEADERS | PADDED)
        + data(1, b"\xff" + EMPTY + bytes(255), END_STREAM | PADDED)
        + call(3)
        + headers(5)
        + data(5, b"\0" + EMPTY, END_STREAM | PADDED)
    ),
    "more padding than there is": _illegal(
        call(1) + headers(3) + data(3, b"\xff" + EMPTY, END_STREAM | PADDED), fails=(PROTOCOL,)
    ),
    "priorities": _legal(
        headers(1, _PRIORITY + BLOCK, END_HEADERS | WITH_PRIORITY)
        + data(1)
        + on(PRIORITY, 0, 3, _PRIORITY)
        + call(3)
        + on(PRIORITY, 0, 3, _PRIORITY)
        + call(5)
        + on(PRIORITY, 0, 99, _PRIORITY)
    ),
    "a stream that depends on itself": Sequence(
        (call(1) + headers(3, b"\0\0\0\x05\x10" + BLOCK, END_HEADERS | WITH_PRIORITY) + data(3),),
        (1,),
        fails=frozenset({PROTOCOL}),
    ),
    "trailers of a request": _legal(
        call(1)
        + headers(3)
        + data(3, EMPTY, 0)
        + headers(3, literal("x-checksum", "1"), END_HEADERS | END_STREAM)
        + call(5),
    ),
    "trailers that do not end a request": Sequence(
        (call(1) + headers(3) + data(3, EMPTY, 0) + headers(3, literal("x-checksum", "1")) + call(5),),
        (1,),
        fails=frozenset({PROTOCOL}),
    ),
    "a request without a body": _legal(
        call(1) + headers(3, BLOCK, END_HEADERS | END_STREAM) + call(5), answered=(1, 5), ends=(3,)
    ),
    "an empty body": _legal(call(1) + headers(3) + data(3, b"") + call(5), answered=(1, 5), ends=(3,)),
    "an empty frame before the message": _legal(call(1) + headers(3) + data(3, b"", 0) + data(3) + call(5)),
    "a message in six frames": _legal(
        call(1) + headers(3) + b"".join(data(3, EMPTY[at : at + 1], 0) for at in range(5)) + data(3, b"") + call(5)
    ),
    "pings, settings and unknown frames between headers and data": _legal(
        headers(1)
        + on(PING, 0, 0, bytes(8))
        + data(1)
        + headers(3)
        + on(SETTINGS, 0, 0)
        + data(3)
        + headers(5)
        + on(99, 0xFF, 5, b"x")
        + data(5)
    ),
    "headers of three calls, then their data backwards": _legal(
        headers(1) + headers(3) + headers(5) + data(5) + data(3) + data(1)
    ),
    "flags that nobody knows": _legal(
        headers(1, BLOCK, END_HEADERS | 0x42) + data(1, EMPTY, END_STREAM | 0x46) + call(3) + call(5)
    ),
    "the reserved bit": _legal(
        call(1) + on(HEADERS, END_HEADERS, 3 | 1 << 31, BLOCK) + data(3) + headers(5) + data(5 | 1 << 31)
    ),
    "a reset between headers and data": _legal(call(1) + headers(3) + reset(3) + data(3) + call(5), answered=(1, 5)),
    "resets of what has been answered": _legal(
        call(1) + call(3) + reset(1) + reset(3) + call(5) + reset(5), answered=(1, 3, 5)
    ),
    "a request that ends twice": Sequence((call(1) + call(3) + data(3) + call(5),), (1, 3), (5,)),
    "headers after the end": Sequence(
        (call(1) + call(3) + headers(3) + call(5),), (1, 3), fails=frozenset({PROTOCOL, CLOSED})
    ),
    "a stream of before": _illegal(call(5) + call(3), answered=(5,), fails=(PROTOCOL, CLOSED)),
    "a stream of the server": _illegal(call(1) + call(2), fails=(PROTOCOL,)),
    "stream 0": _illegal(call(1) + call(0), fails=(PROTOCOL,)),
    "the last stream there is": _legal(call(1) + call(2**31 - 3), answered=(1, 2**31 - 3)),
    "data before headers": _illegal(call(1) + data(3), fails=(PROTOCOL, CLOSED)),
    "a body larger than a frame may be": _illegal(call(1) + headers(3) + data(3, framed(bytes(20_000))), fails=(SIZE,)),
    "a header larger than a frame may be": _illegal(
        call(1) + headers(3, BLOCK + literal("x", "y" * 100) * 200) + data(3), fails=(SIZE,)
    ),
    "windows of nothing, opened afterwards": _legal(
        setting(4, 0) + call(1) + call(3) + call(5), window(1, 1) + window(3, 1000), setting(4, 65_535)
    ),
    "windows of two bytes": _legal(setting(4, 2) + call(1) + call(3) + call(5), setting(4, 65_535)),
    "a window that is taken back below nothing": _legal(
        call(1) + setting(4, 65_535) + headers(3) + setting(4, 0), data(3) + call(5), setting(4, 65_535)
    ),
    "a window of more than there may be": _illegal(call(1) + window(0, 2**31 - 1) + call(3), fails=(FLOW,)),
    "a window update of nothing": _illegal(call(1) + window(0, 0) + call(3), fails=(PROTOCOL, FLOW)),
    "a table of nothing for our answers": _legal(setting(1, 0) + call(1) + call(3), setting(1, 4096) + call(5)),
    "frames of another size": _legal(setting(5, 2**24 - 1) + call(1) + call(3) + setting(5, 16_384) + call(5)),
    "frames of an impossible size": _illegal(call(1) + setting(5, 100) + call(3), fails=(PROTOCOL,)),
    "goodbye, and more calls": Sequence((call(1) + on(GOAWAY, 0, 0, bytes(8)) + call(3),), (1,)),
    "three calls, byte for byte": _legal(*(bytes((byte,)) for byte in call(1) + call(3) + call(5))),
    "garbage for a message": _legal(
        call(1) + headers(3, block("/runtime.v1.ImageService/ImageStatus")) + data(3, framed(b"\xff" * 50)) + call(5),
        answered=(1, 5),
        ends=(3,),
    ),
    "a field without its end": _legal(
        call(1) + headers(3, block(LIST)) + data(3, framed(b"\x0a\x7f")) + call(5), answered=(1, 5), ends=(3,)
    ),
    "nested 5,000 times": _legal(
        call(1) + headers(3, block(HEALTH)) + data(3, framed(b"\x0a" * 5000)) + call(5), answered=(1, 5), ends=(3,)
    ),
    "a length that lies": _legal(
        call(1) + headers(3) + data(3, framed(b"", announced=1000)) + call(5), answered=(1, 5), ends=(3,)
    ),
    "a length of 4 GiB": _legal(
        call(1) + headers(3) + data(3, framed(b"", announced=2**32 - 1)) + call(5), answered=(1, 5), ends=(3,)
    ),
    "two messages": _legal(call(1) + headers(3) + data(3, EMPTY * 2) + call(5), answered=(1, 5), ends=(3,)),
    "a compressed message": _legal(
        call(1) + headers(3) + data(3, framed(b"", compressed=1)) + call(5), answered=(1, 5), ends=(3,)
    ),
    "pseudo-headers last, and twice": _legal(
        call(1)
        + headers(3, literal("x-a", "b") + BLOCK)
        + data(3)
        + headers(5, BLOCK + literal(":path", "/no.Such/Method"))
        + data(5)
        + call(7),
        answered=(1, 7),
        ends=(3, 5),
    ),
}
for _text in ("0n", "0S", "00000000H", "1n", "99999999H", "1", "-1S", "1.5S", "999999999S", ""):
    SEQUENCES[f"a deadline of {_text or 'no text'}"] = _legal(
        call(1) + headers(3, block(VERSION, literal("grpc-timeout", _text))) + data(3) + call(5),
        answered=(1, 5),
        ends=(3,),
    )
