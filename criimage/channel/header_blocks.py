"""Header blocks (HPACK, RFC 7541) without the table that makes one depend on those before it.

We announce a table of size 0, so that every block which comes in stands for itself: the same bytes are the same headers
(which makes a look-up of what is a hundred times as slow otherwise), and one that is too large to be read costs its own
call only. What goes out uses no table either: plain literals, which every peer takes whatever it has announced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from criimage.channel.frames import ProtocolFault

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BLOCK_LIMIT", "NO_TABLE", "BlockDecoder", "Headers", "TooManyHeaders", "encode_block"]

Headers = list[tuple[bytes, bytes]]
"""Names in lower case and values, as they stand on the wire."""

BLOCK_LIMIT = 2**20
"""Largest header block, encoded or decoded, that is read."""

NO_TABLE = b"\x20"
"""At the beginning of a block: the table has size 0 from now on (RFC 7541 6.3)."""

_KEPT = 128
_KEPT_SIZE = 512

# RFC 7541, appendix A.
_WHOLE = {(b":method", b"POST"): b"\x83", (b":scheme", b"http"): b"\x86", (b":status", b"200"): b"\x88"}
_NAMES = {b":authority": b"\x01", b":path": b"\x04", b":status": b"\x08", b"content-type": b"\x0f\x10"}


class TooManyHeaders(Exception):
    """A block holds more than BLOCK_LIMIT; the connection goes on, as no later block depends on this one."""


def _length(size: int) -> bytes:
    if size < 0x7F:
        return bytes((size,))
    size -= 0x7F
    out = bytearray(b"\x7f")
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def encode_block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the block of these headers, in their order."""
    parts = []
    for header in headers:
        whole = _WHOLE.get(header)
        if whole is not None:
            parts.append(whole)
            continue
        name, value = header
        parts.append(_NAMES.get(name) or b"\0" + _length(len(name)) + name)
        parts.append(_length(len(value)) + value)
    return b"".join(parts)


class BlockDecoder:
    """Reads the blocks of one connection whose peer was told to use no table."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=BLOCK_LIMIT)
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0
        self._kept: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        """Return the headers of a block; the list is shared and not to be changed.

        Raises:
            ProtocolFault: it is no header block.
            TooManyHeaders: it holds more than is read.
        """
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        if len(block) > BLOCK_LIMIT:
            raise TooManyHeaders
        try:
            headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise TooManyHeaders from None
        except (HPACKError, UnicodeDecodeError) as error:
            raise ProtocolFault(f"headers that cannot be read: {error}") from None
        if len(block) <= _KEPT_SIZE:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[block] = headers
        return headers
