"""JSON objects cut anywhere come out whole (docker A4)."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from criimage_docker.engine import json_stream
from criimage_docker.engine.json_stream import JSONStream

MESSAGES = [
    {"status": "Pulling from lib/busybox", "id": "1"},
    {"status": 'ümläut {}[] "quoted" \\ \n', "progressDetail": {"current": 1, "total": 2}},
    {},
    {"nested": {"a": [1, {"b": None}]}},
]


def read(*chunks: bytes) -> list[object]:
    stream = JSONStream()
    found: list[object] = [message for chunk in chunks for message in stream.feed(chunk)]
    stream.end()
    return found


@given(
    st.lists(st.integers(0, 400)),
    st.sampled_from(["\r\n", "\n", "", " ", "\r\n\r\n\n", "\t"]),
    st.booleans(),
)
def test_however_it_is_cut(cuts: list[int], between: str, ascii_only: bool) -> None:
    """A4: split, joined, with blank lines, in the middle of a character: the same objects come out."""
    text = between.join(json.dumps(message, ensure_ascii=ascii_only) for message in MESSAGES) + between
    data = text.encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})

    assert read(*(data[start:end] for start, end in itertools.pairwise(edges))) == MESSAGES


VALUES = st.recursive(
    st.none() | st.integers() | st.text('"\\\\{}[]a\u00e4\n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\\\{}', max_size=3), inner, max_size=3),
)


@given(st.lists(st.dictionaries(st.text('"\\\\{}', max_size=3), VALUES, max_size=3)), st.integers(1, 9))
def test_whatever_texts_hold(messages: list[dict[str, object]], size: int) -> None:
    """A4: quotation marks, backslashes and braces in keys and texts, cut anywhere, are no ends of objects."""
    data = "".join(map(json.dumps, messages)).encode()
    assert read(*(data[start : start + size] for start in range(0, len(data), size))) == messages


def test_a_long_line() -> None:
    """A4: longer than any line limit, and in small pieces."""
    message = {"status": "x" * 2_000_000}
    data = json.dumps(message).encode()

    assert read(*(data[start : start + 65536] for start in range(0, len(data), 65536))) == [message]


def test_each_character_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of a registry's that is full of ends, in small pieces: what is read as JSON is the whole object, once."""
    told: list[str] = []

    def parse(text: str) -> object:
        told.append(text)
        return json.loads(text)

    monkeypatch.setattr(json_stream, "parse_object", parse)
    data = json.dumps({"error": '}"{\\' * 5_000}).encode()
    assert read(*(data[start : start + 7] for start in range(0, len(data), 7))) == [json.loads(data)]
    assert told == [data.decode()]


@pytest.mark.parametrize("data", [b"[1]", b'"text"', b"HTTP/1.1", b'{"a": 1}}', b"null"])
def test_what_is_no_object(data: bytes) -> None:
    """A4: anything else is told."""
    with pytest.raises(ValueError, match="JSON object"):
        read(data)


def test_objects_before_a_fault_are_given() -> None:
    """A4: what came whole counts, whatever follows."""
    given = JSONStream().feed(b'{"a": 1} oops {}')

    assert next(given) == {"a": 1}
    with pytest.raises(ValueError, match="no JSON object"):
        next(given)


def test_an_object_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A4: memory is not given to what never ends, and an end in the middle is told."""
    monkeypatch.setattr(json_stream, "_LENGTH_LIMIT", 1000)
    with pytest.raises(ValueError, match="without an end"):
        read(b'{"a": "' + b"x" * 2000)
    with pytest.raises(ValueError, match="cut off"):
        read(b'{"a": 1')
    with pytest.raises(ValueError, match="no JSON"):
        read(b'{"a": oops}')


def test_bytes_that_are_no_text() -> None:
    """A registry's words may be anything; the message is read all the same."""
    assert read(b'{"error": "\xff\xfe"}') == [{"error": "\ufffd\ufffd"}]
