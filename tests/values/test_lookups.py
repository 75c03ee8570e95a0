"""Lookups and patterns: every way in which a text can ask for a stored image (cri-o N5-N7, S16)."""

from __future__ import annotations

import pytest

from criimage.errors import InvalidRequest
from criimage.reference import ImageID, Lookup, Name, Pattern

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [HEX, f"sha256:{HEX}"])
def test_a_full_id_is_nothing_else(text: str) -> None:
    """N5: 64 lower-case hex digits in either spelling are the ID; no prefix, no name."""
    assert Lookup.parse(text) == Lookup(text, id=ImageID(HEX))


@pytest.mark.parametrize("digits", ["abc", "cafe", "123", HEX[:63]])
def test_short_hex_is_a_prefix_or_a_name(digits: str) -> None:
    """N6: 3 to 63 lower-case hex digits may be the beginning of an ID, and a name as well."""
    assert Lookup.parse(digits) == Lookup(digits, id_prefix=digits, name=Name(None, digits))


@pytest.mark.parametrize("digits", ["abc", "cafe", HEX[:63]])
def test_short_hex_with_an_algorithm_is_a_prefix_or_a_tag(digits: str) -> None:
    """N6: `sha256:cafe` is how docker's clients cut an ID, and the tag of a repository called sha256."""
    text = f"sha256:{digits}"

    assert Lookup.parse(text) == Lookup(text, id_prefix=digits, name=Name(None, "sha256", digits))


@pytest.mark.parametrize("text", ["a", "ab", "1", "12"])
def test_one_or_two_digits_are_only_a_name(text: str) -> None:
    """N6: 1 and 2 characters never match an ID."""
    assert Lookup.parse(text) == Lookup(text, name=Name(None, text))


@pytest.mark.parametrize("text", ["ABC", "CAFE", "cafeA", HEX.upper(), HEX[:63].upper()])
def test_upper_hex_finds_nothing_but_is_no_error(text: str) -> None:
    """N7: only hex digits, but no ID and no name: a question that can be answered with no."""
    assert Lookup.parse(text) == Lookup(text)


@pytest.mark.parametrize("text", ["A", "AB", "CAFG", "sha256:", "", "\n", f"{HEX}\n", "cafe\n", "CAFE\n", "٣٣٣", "*"])
def test_what_can_be_neither_is_refused(text: str) -> None:
    """N7, S16: everything else outside the grammar is the request's fault."""
    with pytest.raises(InvalidRequest):
        Lookup.parse(text)


def test_upper_hex_with_an_algorithm_is_a_name() -> None:
    """N6: upper-case hex is never an ID, but a tag may be in upper case."""
    assert Lookup.parse("sha256:CAFE") == Lookup("sha256:CAFE", name=Name(None, "sha256", "CAFE"))


def test_sixty_five_digits_are_a_name() -> None:
    """N5, N6: longer than an ID is no beginning of one."""
    assert Lookup.parse(HEX + "0") == Lookup(HEX + "0", name=Name(None, HEX + "0"))


@pytest.mark.parametrize("text", ["busybox", "a.b/x:1", HEX, "cafe", "CAFE", f"sha256:{HEX}"])
def test_a_pattern_without_wildcards_is_a_lookup(text: str) -> None:
    """S15: a filter that names one image is read by the rules of status."""
    assert Pattern.parse(text) == Pattern(text, Lookup.parse(text))


@pytest.mark.parametrize(
    "text", ["*", "busybox*", "*/x:1", "a.b/[a-z]?", "Upper*", "x:*", "[!a]", "a\\*", "-x*", "../*"]
)
def test_a_glob_is_a_pattern_only(text: str) -> None:
    """Design section 4: wildcards are for stores that know them; no lookup reads them."""
    assert Pattern.parse(text) == Pattern(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b*", "a\n*", "*\n", "*\0", "é*", "٣*", "Upper", "a*" * 256, "*" * 10**5, "$*", "{a,b}*", "\ud800*"],
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    """S15: a filter is a name, an ID or a bounded glob of plain characters."""
    with pytest.raises(InvalidRequest):
        Pattern.parse(text)
