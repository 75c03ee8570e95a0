"""Text that strangers wrote: registries, engines, tools, images. It is cut before anything looks at it.

Everything here costs time in proportion to the text and to nothing else: plain searches, and expressions that take
each character once. So whoever can choose a text cannot choose how long the service is busy with it.

    at the door     KeptEnds for a stream of bytes, `keep_start`, `keep_end`, `keep_ends` and `halves` for a text
    for a reader    `one_line`, `without_html`, `without_own_places`, `without_chance`, or all of it: `readable`;
                    `without_paths`

Secrets are another matter: see criimage.masking, which comes before any of this wherever a text may hold one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DOOR_LIMIT",
    "ELISION",
    "KeptEnds",
    "halves",
    "keep_end",
    "keep_ends",
    "keep_start",
    "one_line",
    "readable",
    "repaired",
    "without_chance",
    "without_html",
    "without_own_places",
    "without_paths",
]

ELISION = "…"
"""Stands where something was taken out."""

DOOR_LIMIT = 16 * 1024
"""Characters of a foreign message that are looked at; far more than any real one has."""

_ADDRESS_LIMIT = 64

_SURROGATES = re.compile("[\ud800-\udfff]+")
# Controls of C0 and C1, and those that turn the direction of writing or have no width: they hide or move other text.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]+")
_PAGE = re.compile(r"<(?:!doctype|\?xml|html|head|body)\b", re.IGNORECASE)
_TUNING = re.compile(r" ?\(heuristic tuning data: [^()]*\):?")
_WORD = re.compile(r"[^\s\"']+")
_SOURCE_ADDRESS = re.compile(r"[0-9a-fA-F.:\[\]]+:\d+\Z")
_STORAGE_FILE = re.compile(r"/storage\d+/\d+")
_DESCRIPTOR = re.compile(r"/proc/self/fd/\d+")
_WORK_FOLDER = "criimage-work-"
# One failure, two texts in Go's HTTP client, as its goroutines happen to run: an alert of TLS or a closed connection is
# seen by whoever waits for the answer, or by the reader before anybody waits (seen in 3 of 100 runs of skopeo 1.9.3).
_CHANCE = (
    ("readLoopPeekFailLocked: ", ""),
    ("net/http: HTTP/1.x transport connection broken: ", ""),
    ("http: server closed idle connection", "EOF"),
    ("tls: first record does not look like a TLS handshake", "http: server gave HTTP response to HTTPS client"),
)
# From its slash on, which begins a word; a URL's stand behind others. Each character is looked at once.
_PATH = re.compile(r"(?<![^\s\"'(\[{<=:])/[^\s\"'/:]++/[^\s\"':]*+")
_BOTH_ENDS = 3
"""The shortest text with two ends and the mark."""


class KeptEnds:
    """Takes a stream of bytes of any length and keeps its beginning and its end.

    Args:
        start: bytes kept of the beginning.
        end: bytes kept of the end; most tools say last what mattered.
    """

    def __init__(self, start: int, end: int) -> None:
        self._start_limit, self._end_limit = start, end
        self._start = bytearray()
        self._end = bytearray()
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self.total += len(data)
        missing = self._start_limit - len(self._start)
        if missing > 0:
            self._start += data[:missing]
            data = data[missing:]
        self._end += data[-self._end_limit :] if self._end_limit else b""
        # Only now and then, or many small pieces would each move all that is kept.
        if len(self._end) > 2 * self._end_limit:
            del self._end[: -self._end_limit]

    def text(self) -> str:
        """Return what was kept, as UTF-8 with what is none replaced, with the mark for what is missing."""
        end = bytes(self._end[-self._end_limit :]) if self._end_limit else b""
        start = bytes(self._start)
        if len(start) + len(end) == self.total:
            return (start + end).decode("utf-8", "replace")
        return f"{start.decode('utf-8', 'replace')}{ELISION}{end.decode('utf-8', 'replace')}"


def keep_start(text: str, limit: int) -> str:
    """Return at most `limit` characters, the last one the mark if something is missing."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + ELISION


def keep_end(text: str, limit: int) -> str:
    """Return at most `limit` characters, the first one the mark if something is missing."""
    return text if len(text) <= limit else ELISION + text[len(text) - max(limit - 1, 0) :]


def keep_ends(text: str, limit: int = DOOR_LIMIT) -> str:
    """Return at most `limit` characters, the mark in the middle if something is missing.

    For a chain of causes: what was tried stands first in it, what came of it last.
    """
    if limit < _BOTH_ENDS:
        return keep_start(text, limit)
    start, end = halves(text, limit)
    return f"{start}{ELISION}{end}" if end else start


def halves(text: str, limit: int = DOOR_LIMIT) -> tuple[str, str]:
    """Return the beginning and the end of a text that is longer than `limit`, or all of it and nothing.

    For whoever has to look at the cut; the mark has its place between the two.
    """
    if len(text) <= limit:
        return text, ""
    half = max(limit - 1, 2) // 2
    return text[:half], text[len(text) - half :]


def repaired(text: str) -> str:
    """Return `text` with U+FFFD for halves of surrogate pairs, as Go reads them; UTF-8 can carry the result."""
    return _SURROGATES.sub("\ufffd", text) if not text.isascii() else text


def one_line(text: str) -> str:
    """Return `text` on one line, without anything that a terminal or a log would obey."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    return " ".join(_CONTROLS.sub(" ", repaired(text)).split())


def without_html(text: str) -> str:
    """Return `text` up to where a page begins, which a proxy may have sent instead of an answer."""
    found = _PAGE.search(text)
    return text if found is None else text[: found.start()].rstrip(" \t\r\n:\"'\\*") + f" {ELISION}"


def without_own_places(text: str) -> str:
    """Return `text` without what is ours alone and changes from time to time.

    That is work folders, descriptors, the temporary files of the tools, the port a connection began at, and what
    skopeo says of its timing: the same failure has the same text.
    """
    text = _TUNING.sub("", text)
    if "->" in text:
        text = _without_source_addresses(text)
    return _each_word(text, _without_own_path)


def without_chance(text: str) -> str:
    """Return `text` with one wording for what Go's HTTP client words in two ways, as its goroutines happen to run.

    Whoever looks for words in an error of a tool in Go looks here first: the same failure is the same kind.
    """
    for words, instead in _CHANCE:
        text = text.replace(words, instead)
    return text


def without_paths(text: str) -> str:
    """Return `text` without the paths of two parts and more that stand in it: the folders of whoever wrote it."""
    return _PATH.sub(ELISION, text)


def readable(text: str, limit: int) -> str:
    """Return foreign `text` as one clean line of at most `limit` characters; masked already, if it may hold secrets."""
    return keep_start(without_own_places(without_chance(one_line(without_html(keep_ends(text))))), limit)


def _each_word(text: str, change: Callable[[str], str]) -> str:
    return _WORD.sub(lambda found: change(found[0]), text)


def _without_own_path(word: str) -> str:
    if "/" not in word:
        return word
    word = _DESCRIPTOR.sub(ELISION, word)
    for begin, end in ((word.find(_WORK_FOLDER), word.find(":")), _span(_STORAGE_FILE.search(word))):
        if begin < 0:
            continue
        # The path as a whole, from its first slash up to the colon that Go puts behind it.
        root = word.find("/", 0, begin + 1)
        if 0 <= root <= begin:
            stop = word.find(":", begin) if end < begin else end
            return word[:root] + ELISION + (word[stop:] if stop > begin else "")
    return word


def _span(found: re.Match[str] | None) -> tuple[int, int]:
    return (-1, -1) if found is None else found.span()


def _without_source_addresses(text: str) -> str:
    parts = text.split("->")
    for number, part in enumerate(parts[:-1]):
        end = part[-_ADDRESS_LIMIT:]
        found = _SOURCE_ADDRESS.search(end)
        if found is not None:
            parts[number] = part[: len(part) - len(end) + found.start()]
        else:
            parts[number] += "->"
    return "".join(parts)
