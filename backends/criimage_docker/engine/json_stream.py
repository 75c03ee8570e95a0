"""JSON objects out of a byte stream that cuts them anywhere.

The engine writes one object a line, but nothing promises lines: two objects may share one, a blank one may stand
between them, and one may be longer than any line limit (A4).
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["JSONStream"]

_LENGTH_LIMIT = 16 * 1024 * 1024
_WHITE = " \t\r\n"


class JSONStream:
    """Takes bytes, gives the objects that are complete."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder()
        # The engine writes UTF-8; a text of a registry that it passes on may hold anything.
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that `data` completes; to be consumed before the next call.

        Raises:
            ValueError: what comes is not a JSON object, or one that never ends.
        """
        self._waiting += self._text.decode(data)
        # An object ends with its brace: without one there is nothing to gain by parsing a long one again.
        if b"}" not in data and len(self._waiting) <= _LENGTH_LIMIT:
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
                    found, position = self._decoder.raw_decode(self._waiting, position)
                except json.JSONDecodeError:
                    break  # its rest is still to come
                yield found
        finally:
            self._waiting = self._waiting[position:]
        if len(self._waiting) > _LENGTH_LIMIT:
            raise ValueError("the engine sent a JSON object without an end")

    def end(self) -> None:
        """Say that nothing more comes.

        Raises:
            ValueError: an object was cut off.
        """
        if self._waiting.strip(_WHITE):
            raise ValueError("the engine's answer was cut off in the middle of a JSON object")
