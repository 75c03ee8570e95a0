"""JSON objects out of a byte stream that cuts them anywhere.

The engine writes one object a line, but nothing promises lines: two objects may share one, a blank one may stand
between them, and one may be longer than any line limit (A4).
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

from criimage.foreign_json import parse_next

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["JSONStream"]

_LENGTH_LIMIT = 4 * 1024 * 1024
_LONG = 64 * 1024
_WHITE = " \t\r\n"


class JSONStream:
    """Takes bytes, gives the objects that are complete."""

    def __init__(self) -> None:
        # The engine writes UTF-8; a text of a registry that it passes on may hold anything.
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""
        self._tried = 0

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that `data` completes; to be consumed before the next call.

        Raises:
            ValueError: what comes is not a JSON object, or one that never ends.
        """
        self._waiting += self._text.decode(data)
        if not self._worth_a_try(data):
            return
        position = 0
        try:
            while True:
                while position < len(self._waiting) and self._waiting[position] in _WHITE:
                    position += 1
                if position == len(self._waiting):
                    return
                if self._waiting[position] != "{":
                    raise ValueError("the engine sent something that is no JSON object")
                try:
                    found, position = parse_next(self._waiting, position)
                except json.JSONDecodeError:
                    break  # its rest is still to come
                yield found
        finally:
            self._waiting = self._waiting[position:]
        if len(self._waiting) > _LENGTH_LIMIT:
            raise ValueError("the engine sent a JSON object without an end")

    def _worth_a_try(self, data: bytes) -> bool:
        # An object ends with its brace. A long one, perhaps with many braces in a text of a registry's, is not read
        # again from its beginning with every piece: that would cost its length squared.
        length = len(self._waiting)
        if length > _LENGTH_LIMIT:
            return True
        if b"}" not in data or (length > _LONG and length < 2 * self._tried and not data.rstrip().endswith(b"}")):
            return False
        self._tried = length
        return True

    def end(self) -> None:
        """Say that nothing more comes.

        Raises:
            ValueError: an object was cut off.
        """
        if self._waiting.strip(_WHITE):
            raise ValueError("the engine's answer was cut off in the middle of a JSON object")
