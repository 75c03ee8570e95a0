"""Claims: what betterproto 2.0.0b7 does wrong, so that an upgrade which changes any of it is noticed.

The code base works around each of these or is shown not to meet it; the tests say what is so, not what should be.
"""

from __future__ import annotations

import copy
from typing import Any

import betterproto
import pytest

from criimage.cri.runtime import v1
from wire.messages.interfaces import KINDS

EMPTY_UID = b"\x2a\x00"  # Image.uid, present, with the default value
UNKNOWN_FIELD = b"\xa2\x06\x01x"  # field 100, one byte


def test_an_empty_submessage_made_without_values_is_dropped() -> None:
    """`Int64Value()` is not sent; giving the default, or parsing nothing, sends it (python-stack 1)."""
    assert bytes(v1.Image(uid=v1.Int64Value())) == b""
    assert bytes(v1.ImageStatusResponse(image=v1.Image())) == b""
    assert bytes(v1.Image(uid=v1.Int64Value(value=0))) == EMPTY_UID
    assert bytes(v1.Image(uid=v1.Int64Value.FromString(b""))) == EMPTY_UID


def test_a_received_empty_submessage_is_present() -> None:
    """Root (uid 0) and no uid are told apart, but only by `serialized_on_wire` (cri-protocol 2.6)."""
    received, absent = v1.Image.FromString(EMPTY_UID), v1.Image()
    assert betterproto.serialized_on_wire(received.uid)
    assert not betterproto.serialized_on_wire(absent.uid)
    assert received.uid == absent.uid
    assert received == absent
    assert bytes(received) == EMPTY_UID


def test_reading_an_absent_submessage_does_not_send_it() -> None:
    """Looking at `image.uid.value` leaves `uid` absent."""
    image = v1.Image()
    assert image.uid.value == 0
    assert bytes(image) == b""


def test_presence_set_through_an_absent_parent_is_lost() -> None:
    """A default value assigned below a submessage that was never set is not sent: build from the inside out."""
    response = v1.ImageStatusResponse()
    response.image.uid.value = 0
    assert bytes(response) == b""
    assert bytes(v1.ImageStatusResponse(image=v1.Image(uid=v1.Int64Value(value=0)))) == b"\n\x02" + EMPTY_UID


def test_a_map_pair_of_two_empty_strings_is_dropped() -> None:
    """`{"": ""}` is not sent, though received it is read."""
    assert bytes(v1.ImageSpec(annotations={"": ""})) == b""
    assert v1.ImageSpec.FromString(b"\x12\x00").annotations == {"": ""}


def test_an_unknown_field_in_a_map_pair_is_dropped() -> None:
    """Unknown fields are kept everywhere but here."""
    assert bytes(v1.ImageSpec.FromString(b"\x12\x0a\n\x01k\x12\x01v" + UNKNOWN_FIELD)) == b"\x12\x06\n\x01k\x12\x01v"


def test_copies_lose_unknown_fields_and_received_presence() -> None:
    """`copy` and `deepcopy` are not for received messages; bytes parsed again are."""
    received = v1.Image.FromString(EMPTY_UID + UNKNOWN_FIELD)
    assert bytes(copy.deepcopy(received)) == b""
    assert bytes(copy.copy(received)) == EMPTY_UID
    assert bytes(v1.Image.FromString(bytes(received))) == EMPTY_UID + UNKNOWN_FIELD


def test_a_submessage_sent_twice_is_replaced_instead_of_merged() -> None:
    """Other runtimes merge the parts; we see the last. No known client sends parts."""
    parts = b"\n\x03\n\x01a" + b"\n\x04\x9a\x01\x01h"
    assert v1.PullImageRequest.FromString(parts).image == v1.ImageSpec(runtime_handler="h")
    google: Any = KINDS["PullImageRequest"].google.FromString(parts)
    assert (google.image.image, google.image.runtime_handler) == ("a", "h")


def test_packed_numbers_in_two_parts_lose_the_first() -> None:
    """`supplemental_groups` as 1, 2 and then 3 is read as 3 alone. No known client sends parts."""
    parts = b"\x2a\x02\x01\x02" + b"\x2a\x01\x03"
    assert v1.LinuxSandboxSecurityContext.FromString(parts).supplemental_groups == [3]
    google: Any = KINDS["LinuxSandboxSecurityContext"].google.FromString(parts)
    assert list(google.supplemental_groups) == [1, 2, 3]


@pytest.mark.parametrize(
    ("encoded", "read_as"),
    [
        (b"\n\x05ab", v1.Image(id="ab")),
        (b"\x80", v1.Image()),
        (b"\n\x01a\x12\x7f", v1.Image(id="a", repo_tags=[""])),
    ],
    ids=["text cut short", "key cut short", "element cut short"],
)
def test_a_truncated_message_is_accepted(encoded: bytes, read_as: v1.Image) -> None:
    """What ends too early is read as far as it goes; google's runtime refuses it (python-stack 1)."""
    assert v1.Image.FromString(encoded) == read_as
    with pytest.raises(Exception, match="Error parsing message"):
        KINDS["Image"].google.FromString(encoded)


@pytest.mark.parametrize(
    ("encoded", "field", "value"),
    [
        (b"\x08\x05", "id", 5),
        (b"\x22\x01\x05", "size", [5]),
        (b"\x28\x05", "uid", 5),
        (b"\x9b\x06\x08\x01\x9c\x06", "id", 1),
    ],
    ids=["number for text", "bytes for number", "number for message", "inside an unknown group"],
)
def test_a_wrong_wire_type_puts_a_wrong_python_type_into_the_field(encoded: bytes, field: str, value: object) -> None:
    """A field's type cannot be relied on before the bytes were checked; google's runtime keeps it as unknown."""
    assert getattr(v1.Image.FromString(encoded), field) == value
    assert KINDS["Image"].google.FromString(encoded).SerializeToString() == encoded


@pytest.mark.parametrize(
    ("encoded", "error"),
    [
        (b"\x20\x80", EOFError),
        (b"\n\x01\xff", UnicodeDecodeError),
        (b"\x20" + b"\xff" * 10 + b"\x01", ValueError),
        (b"\x25\x01\x00\x00\x00", KeyError),
    ],
    ids=["number cut short", "not UTF-8", "number too long", "fixed width for number"],
)
def test_bad_bytes_raise_whatever_comes(encoded: bytes, error: type[Exception]) -> None:
    """There is no one error for undecodable bytes: a codec has to catch `Exception` (design 4, bad requests)."""
    with pytest.raises(error):
        v1.Image.FromString(encoded)


def test_numbers_out_of_range_are_sent() -> None:
    """Nothing checks a number's width; google's runtime cuts off what does not fit."""
    encoded = bytes(v1.IdMapping(host_id=2**32 + 1))
    assert v1.IdMapping.FromString(encoded).host_id == 2**32 + 1
    google: Any = KINDS["IDMapping"].google.FromString(encoded)
    assert google.host_id == 1


def test_repr_prints_secrets_and_messages_cannot_be_hashed() -> None:
    """Never log a message, never use one as a key (python-stack 1, T12)."""
    assert "hunter2" in repr(v1.AuthConfig(password="hunter2"))  # noqa: S106 - a made-up one
    with pytest.raises(TypeError, match="unhashable"):
        hash(v1.AuthConfig())
