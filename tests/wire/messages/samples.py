"""Random messages as plain values, and how each runtime makes a message of one.

A sample is a dict of the fields that are present, submessages being samples again. Under `UNKNOWN` it may hold the
bytes of fields that the interface does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

from wire.messages.interfaces import KINDS

if TYPE_CHECKING:
    import betterproto
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

UNKNOWN: Final = ""
Sample = dict[str, Any]

_NUMBERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    # Values without a name included: an enum may grow.
    FieldDescriptor.TYPE_ENUM: (0, 5),
}
_TEXT: Final = st.text(max_size=6)
_CANONICAL_KEY: Final = st.text("abcxyz", min_size=3, max_size=3)


def varint(number: int) -> bytes:
    """Encodes a number of 0 or more as protobuf does."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _unknown_fields() -> st.SearchStrategy[bytes]:
    # Far above every number in use. Groups are left out: see test_faults.
    numbers = st.integers(1000, 2**29 - 1)
    payloads = st.one_of(
        st.integers(0, 2**64 - 1).map(lambda value: (0, varint(value))),
        st.binary(min_size=8, max_size=8).map(lambda value: (1, value)),
        st.binary(max_size=6).map(lambda value: (2, varint(len(value)) + value)),
        st.binary(min_size=4, max_size=4).map(lambda value: (5, value)),
    )
    field = st.builds(lambda number, payload: varint(number << 3 | payload[0]) + payload[1], numbers, payloads)
    return st.lists(field, min_size=1, max_size=2).map(b"".join)


def _values(field: FieldDescriptor, *, canonical: bool) -> st.SearchStrategy[Any]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        keys = _CANONICAL_KEY if canonical else _TEXT
        values = st.text(min_size=1, max_size=6) if canonical else _TEXT
        # A pair of two empty strings is lost: see test_faults.
        return st.dictionaries(keys, values, max_size=3).map(
            lambda entries: {key: entries[key] for key in sorted(entries) if key or entries[key]}
        )
    single: st.SearchStrategy[Any]
    if message is not None:
        single = samples(message, canonical=canonical)
    elif field.type == FieldDescriptor.TYPE_STRING:
        single = _TEXT
    elif field.type == FieldDescriptor.TYPE_BOOL:
        single = st.booleans()
    else:
        single = st.integers(*_NUMBERS[field.type])
    return st.lists(single, max_size=3) if field.is_repeated else single


def samples(descriptor: Descriptor, *, canonical: bool) -> st.SearchStrategy[Sample]:
    """Gives random messages of one type.

    Args:
        descriptor: The type.
        canonical: Keeps to messages that have one encoding only. That concerns maps: runtimes differ in whether they
            write an empty key or value, and in the order of keys of which one begins another.

    Returns:
        A strategy for samples, unknown fields included.
    """
    fields = {field.name: _values(field, canonical=canonical) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional={**fields, UNKNOWN: _unknown_fields()})


def _submessage(field: FieldDescriptor) -> str | None:
    """Gives the name of the message type a field holds, nothing for other fields and for maps."""
    message = field.message_type
    return None if message is None or message.GetOptions().map_entry else message.name


def for_google(name: str, sample: Sample) -> Message:
    """Makes google's message of a sample.

    Args:
        name: The type's name in the interface, `ImageSpec`.
        sample: The fields present.
    """
    kind = KINDS[name]
    message = kind.google()
    for field in kind.descriptor.fields:
        if field.name not in sample:
            continue
        value, below = sample[field.name], _submessage(field)
        place: Any = getattr(message, field.name)
        if isinstance(value, dict) and below is None:
            place.update(value)
        elif field.is_repeated:
            place.extend(value if below is None else [for_google(below, each) for each in value])
        elif below is None:
            setattr(message, field.name, value)
        else:
            place.SetInParent()
            place.CopyFrom(for_google(below, value))
    message.MergeFromString(sample.get(UNKNOWN, b""))
    return message


def for_ours(name: str, sample: Sample) -> betterproto.Message:
    """Makes our message of a sample, through its constructor as the code base does.

    Args:
        name: The type's name in the interface, `ImageSpec`.
        sample: The fields present.
    """
    kind = KINDS[name]
    fields: dict[str, Any] = {}
    for field in kind.descriptor.fields:
        if field.name not in sample:
            continue
        value, below = sample[field.name], _submessage(field)
        if below is None:
            fields[field.name] = value
        elif field.is_repeated:
            fields[field.name] = [for_ours(below, each) for each in value]
        else:
            fields[field.name] = for_ours(below, value)
    # Parsing, even of nothing, is what marks a message without values as present: see test_faults.
    return kind.ours(**fields).parse(sample.get(UNKNOWN, b""))
