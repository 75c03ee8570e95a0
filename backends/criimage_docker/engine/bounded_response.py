"""Answers of the engine that are read as a whole, which aiodocker does without asking how long they are."""

from __future__ import annotations

import aiohttp

__all__ = ["ANSWER_LIMIT", "AnswerTooLong", "BoundedResponse"]

ANSWER_LIMIT = 64 * 2**20
"""Bytes of an answer, unpacked: ten times the list of an engine with ten thousand images."""


class AnswerTooLong(ValueError):
    """The engine's answer is longer than any that makes sense; its connection has been closed."""

    def __init__(self) -> None:
        super().__init__(f"it is longer than {ANSWER_LIMIT // 2**20} MiB")


class BoundedResponse(aiohttp.ClientResponse):
    """A response that is read as a whole with a bound; a stream, which is read piece by piece, has none.

    Raises AnswerTooLong where it is read.
    """

    async def read(self) -> bytes:
        """As aiohttp's, which `json` and `text` use as well, of so many bytes at most."""
        if self._body is None:
            try:
                self._body = await self._bounded()
            except BaseException:
                self.close()
                raise
        return await super().read()

    async def _bounded(self) -> bytes:
        pieces, size = [], 0
        async for piece in self.content.iter_any():
            size += len(piece)
            if size > ANSWER_LIMIT:
                raise AnswerTooLong
            pieces.append(piece)
        return b"".join(pieces)
