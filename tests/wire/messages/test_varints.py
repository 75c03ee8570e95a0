"""Numbers as protobuf writes them: seven bits a byte, the lowest first, the last byte without the top bit."""

from __future__ import annotations

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from criimage import wire

EDGES = [0, 1, 127, 128, 129, 255, 300, 2**14 - 1, 2**14, 2**21, 2**32, 2**63, 2**64 - 1]


@pytest.mark.parametrize("number", EDGES)
def test_a_number_is_written_as_google_does(number: int) -> None:
    """In as few bytes as there can be, at each edge where one byte more is needed."""
    assert wire.uint(number) == _VarintBytes(number)


@given(st.integers(1, 2**29 - 1), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=300))
def test_fields_are_read_as_they_were_written(field: int, number: int, content: bytes) -> None:
    """A field of any number, with any value, is what it was; a number of 0 is left out, no bytes are not."""
    written = wire.varint_field(field, number) + wire.length_delimited(field, content)
    expected = [(field, wire.VARINT, number % 2**64)] if number else []

    assert list(wire.fields(written)) == [*expected, (field, wire.BYTES, content)]


@pytest.mark.parametrize(
    ("text", "read"), [("plain", "plain"), ("\ud800x", "\ufffdx"), ("\U0001f600", "\U0001f600"), ("x\udc00", "x\ufffd")]
)
def test_half_of_a_pair_is_no_text(text: str, read: str) -> None:
    """JSON can hold it and UTF-8 cannot: it becomes U+FFFD, as Go reads it, and nothing around it is lost."""
    assert list(wire.fields(wire.text_field(1, text))) == [(1, wire.BYTES, read.encode())]
