"""Parses a message with betterproto, after the checks that betterproto leaves out.

betterproto 2.0.0b7 takes truncated messages, wrong wire types and text that is not UTF-8 without a word (python-stack
1).
"""

from __future__ import annotations

from typing import TypeVar

import betterproto

from criimage import wire
from criimage.errors import InvalidRequest

__all__ = ["parse"]

MessageT = TypeVar("MessageT", bound=betterproto.Message)

_WIRE_TYPES = {
    **dict.fromkeys(betterproto.WIRE_VARINT_TYPES, wire.VARINT),
    **dict.fromkeys(betterproto.WIRE_FIXED_32_TYPES, wire.FIXED32),
    **dict.fromkeys(betterproto.WIRE_FIXED_64_TYPES, wire.FIXED64),
    **dict.fromkeys(betterproto.WIRE_LEN_DELIM_TYPES, wire.BYTES),
}


def parse(message_type: type[MessageT], data: bytes) -> MessageT:
    """Return the message that `data` holds.

    Raises:
        InvalidRequest: truncated, a field of another type than the message has there, or text that is not UTF-8.
    """
    _check(message_type, data)
    return message_type().parse(data)


def _check(message_type: type[betterproto.Message], data: bytes) -> None:
    # The only description of a message that betterproto keeps; its annotations do not fit its own use.
    shape = message_type()._betterproto  # type: ignore[arg-type]  # noqa: SLF001
    for number, wire_type, value in wire.fields(data):
        name = shape.field_name_by_number.get(number)
        if name is None:
            continue  # unknown fields are kept, as protobuf wants
        field = shape.meta_by_field_name[name]
        repeated = shape.default_gen[name] is list
        if repeated and field.proto_type in betterproto.PACKED_TYPES and wire_type == wire.BYTES:
            continue
        if wire_type != _WIRE_TYPES[field.proto_type]:
            raise InvalidRequest(f"the request cannot be decoded: field {name} has another type")
        if field.proto_type == betterproto.TYPE_STRING:
            wire.text(value)
        elif field.proto_type in (betterproto.TYPE_MESSAGE, betterproto.TYPE_MAP) and isinstance(value, bytes):
            _check(shape.cls_by_field[name], value)
