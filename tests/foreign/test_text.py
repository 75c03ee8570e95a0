"""Foreign text is cut and cleaned, and keeps what it says."""

from __future__ import annotations

import pytest

from criimage.foreign_text import (
    KeptEnds,
    keep_end,
    keep_ends,
    keep_start,
    one_line,
    readable,
    repaired,
    without_html,
    without_own_places,
)


@pytest.mark.parametrize("piece", [1, 7, 100, 10_000])
def test_of_a_long_stream_the_ends_stay(piece: int) -> None:
    """However a stream is cut into pieces, its first and last bytes are kept, and never much more."""
    stream = b"begin " + b"x" * 50_000 + b" level=fatal last words"
    kept = KeptEnds(100, 200)
    for position in range(0, len(stream), piece):
        kept.feed(stream[position : position + piece])

    text = kept.text()
    assert text.startswith("begin xx")
    assert text.endswith(" level=fatal last words")
    assert text.replace("…", "").isascii()
    assert len(text) == 301
    assert kept.total == len(stream)
    assert len(kept._end) <= 400


def test_a_short_stream_stays_whole() -> None:
    """What fits comes back as it was, without a mark."""
    kept = KeptEnds(4, 100)
    kept.feed("Grüße ".encode())
    kept.feed(b"\xff!")

    assert kept.text() == "Grüße \ufffd!"


def test_cuts_keep_their_limit_and_their_end() -> None:
    """Each cut keeps the end it names, and the mark counts."""
    assert keep_start("abcdef", 4) == "abc…"
    assert keep_end("abcdef", 4) == "…def"
    assert keep_ends("abcdefgh", 5) == "ab…gh"
    assert all(cut("abc", 3) == "abc" for cut in (keep_start, keep_end, keep_ends))
    assert all(len(cut("x" * 100, limit)) <= limit for cut in (keep_start, keep_end, keep_ends) for limit in (1, 2, 99))


def test_one_line_obeys_nothing() -> None:
    """Neither a line end, nor a terminal's command, nor a sign that turns the writing around is left."""
    text = one_line("a\r\nb\x1b[31mc\u202ed\u2028e\x00\x85f  g\ud800")

    assert text.isprintable()
    assert text == "a b [31mc d e f g\ufffd"


def test_halves_of_pairs_become_what_go_reads() -> None:
    """A text with half a surrogate pair can be sent afterwards; others are the same object."""
    assert repaired("a\ud83db").encode() == "a\ufffdb".encode()
    assert repaired("\U0001f600") == "\U0001f600"


def test_pages_go() -> None:
    """A proxy's page is cut off, with the quotes and the colon before it."""
    assert without_html('error parsing HTTP 403: "<!DOCTYPE HTML><p>') == "error parsing HTTP 403 …"
    assert without_html("a < b") == "a < b"
    assert without_html("<headless>") == "<headless>"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("read tcp 10.1.2.3:43210->10.0.0.1:443: reset", "read tcp 10.0.0.1:443: reset"),
        ("read tcp [fe80::1]:43210->[fe80::2]:443: reset", "read tcp [fe80::2]:443: reset"),
        ("a -> b", "a -> b"),
        ("write /var/tmp/criimage-work-ab12/pull-x/storage1/2: no space", "write …: no space"),
        ("open /var/tmp/storage123/7: no space", "open …: no space"),
        ('open "/proc/self/fd/17": no', 'open "…": no'),
        ("unexpected EOF (heuristic tuning data: last retry 0, now 3 s): x", "unexpected EOF x"),
        ("docker://criimage-work-x/y", "docker:…"),
        ("criimage-work-x", "criimage-work-x"),
        ("https://registry/storage1/x", "https://registry/storage1/x"),
    ],
)
def test_own_places_go(text: str, left: str) -> None:
    """The same failure has the same text, whatever folder and port it happened with (cri-protocol 2.4)."""
    assert without_own_places(text) == left


def test_readable_is_all_of_it() -> None:
    """One line, clean, without pages, and bounded."""
    text = readable("bad\n\x1b" + "x" * 50_000 + " said 502 <html><body>", 200)

    assert text.startswith("bad xxx")
    assert len(text) == 200
    assert text.isprintable()
