"""Claims: our messages and google's protobuf runtime read each other's bytes without loss."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wire.messages.interfaces import KINDS
from wire.messages.samples import for_google, for_ours, samples

MODEST = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
EVERY_KIND = pytest.mark.parametrize("name", sorted(KINDS))


def google_bytes(name: str, encoded: bytes) -> bytes:
    """Reads bytes as google's runtime does and writes them in its one deterministic way."""
    return KINDS[name].google.FromString(encoded).SerializeToString(deterministic=True)


@EVERY_KIND
@MODEST
@given(data=st.data())
def test_received_bytes_are_sent_on_unchanged(name: str, data: st.DataObject) -> None:
    """What google's runtime wrote comes out of our classes byte for byte: presence, order and unknown fields (1.2)."""
    sample = data.draw(samples(KINDS[name].descriptor, canonical=True))
    received = for_google(name, sample).SerializeToString(deterministic=True)
    assert bytes(KINDS[name].ours.FromString(received)) == received


@EVERY_KIND
@MODEST
@given(data=st.data())
def test_what_we_send_is_read_as_meant(name: str, data: st.DataObject) -> None:
    """What our classes write means to google's runtime what the sample says, in maps too (1.2)."""
    sample = data.draw(samples(KINDS[name].descriptor, canonical=False))
    ours, google = for_ours(name, sample), for_google(name, sample)
    assert google_bytes(name, bytes(ours)) == google.SerializeToString(deterministic=True)


@EVERY_KIND
@MODEST
@given(data=st.data())
def test_what_we_read_is_what_was_meant(name: str, data: st.DataObject) -> None:
    """What google's runtime writes has, read by our classes, the values of the sample, in maps too (1.2)."""
    sample = data.draw(samples(KINDS[name].descriptor, canonical=False))
    assert KINDS[name].ours.FromString(for_google(name, sample).SerializeToString()) == for_ours(name, sample)


@EVERY_KIND
@MODEST
@given(data=st.data())
def test_both_encodings_are_the_same_bytes(name: str, data: st.DataObject) -> None:
    """Where the encoding is canonical, both runtimes write the same bytes: fields in the order of their numbers."""
    sample = data.draw(samples(KINDS[name].descriptor, canonical=True))
    assert bytes(for_ours(name, sample)) == for_google(name, sample).SerializeToString(deterministic=True)
