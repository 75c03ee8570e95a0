"""JSON objects out of a byte stream that cuts them anywhere.

The engine writes one object a line, but nothing promises lines: two objects may share one, a blank one may stand
between them, and one may be longer than any line limit (A4). Where an object ends is found by its braces, each
character looked at once, since a registry may have chosen what stands in its texts; only then it is read.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

from criimage.foreign_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["JSONStream"]

_LENGTH_LIMIT = 4 * 1024 * 1024
_BEGIN = re.compile(r"[^ \t\r\n]")
_MARK = re.compile(r'["{}]')
# Up to the quotation mark that ends a string, or the end, or a backslash whose character is still to come.
_OF_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class JSONStream:
    """Takes bytes, gives the objects that are complete."""

    def __init__(self) -> None:
        # The engine writes UTF-8; a text of a registry that it passes on may hold anything.
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun: list[str] = []
        self._length = 0
        self._depth = 0
        self._in_string = self._escaped = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that `data` completes; to be consumed before the next call.

        Raises:
            ValueError: what comes is not a JSON object, or one that never ends. The stream is of no use afterwards.
        """
        piece = self._text.decode(data)
        place = 0
        while place < len(piece):
            if not self._depth:
                begin = _BEGIN.search(piece, place)
                if begin is None:
                    return
                if begin[0] != "{":
                    raise ValueError("the engine sent something that is no JSON object")
                place = begin.start()
            end = self._end_of_object(piece, place)
            self._begun.append(piece[place:end])
            self._length += len(self._begun[-1])
            if self._length > _LENGTH_LIMIT:
                raise ValueError("the engine sent a JSON object without an end")
            if self._depth:
                return
            whole = "".join(self._begun)
            self._begun.clear()
            self._length = 0
            yield parse_object(whole)
            place = end

    def _end_of_object(self, piece: str, place: int) -> int:
        """Return the place behind the brace that closes the object, or behind the piece if that is still to come."""
        while place < len(piece):
            if self._escaped:
                self._escaped = False
                place += 1
            elif self._in_string:
                rest = _OF_STRING.match(piece, place)
                place = len(piece) if rest is None else rest.end()
                if place < len(piece):
                    self._in_string = piece[place] != '"'
                    self._escaped = self._in_string
                    place += 1
            else:
                mark = _MARK.search(piece, place)
                if mark is None:
                    return len(piece)
                place = mark.end()
                if mark[0] == '"':
                    self._in_string = True
                    continue
                self._depth += 1 if mark[0] == "{" else -1
                if not self._depth:
                    return place
        return len(piece)

    def end(self) -> None:
        """Say that nothing more comes.

        Raises:
            ValueError: an object was cut off.
        """
        if self._depth:
            raise ValueError("the engine's answer was cut off in the middle of a JSON object")
