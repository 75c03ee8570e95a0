"""Reads and writes protobuf's wire format strictly and quickly.

The hot calls need one text of the request and bytes that were made before of the answer; a message object for that
costs a hundred times more (python-stack 1). Unlike betterproto, nothing here lets broken bytes pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BYTES", "VARINT", "Value", "fields", "length_delimited", "text", "text_field", "uint", "varint_field"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_FIXED_LENGTHS = {FIXED64: 8, FIXED32: 4}
_VARINT_BYTES_LIMIT = 10
_FIELD_NUMBER_LIMIT = 2**29
_FIELDS_LIMIT = 10_000
_MALFORMED = "the request cannot be decoded"

Value = int | bytes


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 7 * _VARINT_BYTES_LIMIT, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, position
    raise InvalidRequest(_MALFORMED)


def fields(data: bytes, limit: int = _FIELDS_LIMIT) -> Iterator[tuple[int, int, Value]]:
    """Yield (field number, wire type, value) for every field of a message, in order.

    A value is the content as bytes for BYTES and an int otherwise.

    Args:
        data: the message.
        limit: how many fields it may have.

    Raises:
        InvalidRequest: truncated, a wrong field number, a wire type that is not in use (groups included), or so many
            fields that reading them would hold up every other call.
    """
    position = count = 0
    while position < len(data):
        count += 1
        if count > limit:
            raise InvalidRequest(f"the request has a message of more than {limit} fields")
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        if not 0 < number < _FIELD_NUMBER_LIMIT:
            raise InvalidRequest(_MALFORMED)
        if wire_type == VARINT:
            value, position = _varint(data, position)
            yield number, wire_type, value
            continue
        if wire_type == BYTES:
            length, position = _varint(data, position)
        elif wire_type in _FIXED_LENGTHS:
            length = _FIXED_LENGTHS[wire_type]
        else:
            raise InvalidRequest(_MALFORMED)
        end = position + length
        if end > len(data):
            raise InvalidRequest(_MALFORMED)
        content = data[position:end]
        yield number, wire_type, content if wire_type == BYTES else int.from_bytes(content, "little")
        position = end


def text(value: Value) -> str:
    """Return a string field's value.

    Raises:
        InvalidRequest: not text at all, or not UTF-8.
    """
    if isinstance(value, int):
        raise InvalidRequest(_MALFORMED)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("the request holds text that is not UTF-8") from None


def uint(number: int) -> bytes:
    """Encode a bare varint, 0 to 2**64-1."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    """Encode an integer or bool field; a signed one is given as its two's complement in 64 bits. 0 is left out."""
    return uint(number << 3 | VARINT) + uint(value & 0xFFFF_FFFF_FFFF_FFFF) if value else b""


def length_delimited(number: int, value: bytes) -> bytes:
    """Encode a field of bytes or an embedded message; empty ones too, for presence."""
    return uint(number << 3 | BYTES) + uint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    """Encode a string field, always, for an element of a repeated one.

    Half of a surrogate pair, which JSON can hold and UTF-8 cannot, becomes U+FFFD, as Go reads it.
    """
    try:
        encoded = value.encode("utf-8")
    except UnicodeEncodeError:
        encoded = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode("utf-8")
    return length_delimited(number, encoded)
