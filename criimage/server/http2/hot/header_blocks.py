"""Header blocks (HPACK, RFC 7541): read quickly, and those of answers made once.

A client's block depends on the table that its earlier ones have filled. One that leaves the table as it is means the
same headers until another one changes the table: such blocks are kept. Our own never touch the client's table: they are
literals without indexing, so that they are the same bytes for every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import Decoder
from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hpack.struct import HeaderTuple
from hpack.table import HeaderTable, table_entry_size

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OK_TRAILERS", "REPLY_HEADERS", "BlockDecoder", "Fields"]

Fields = list[tuple[bytes, bytes]]

# Static entry 8; then the name of static entry 31 with a literal value, and a literal name and value.
REPLY_HEADERS = b"\x88" + b"\x0f\x10\x10application/grpc"
"""`:status: 200` and `content-type: application/grpc`."""
OK_TRAILERS = b"\x00\x0bgrpc-status\x010"
"""`grpc-status: 0`."""

_KEPT = 32
_KEPT_SIZE = 512
_STATIC = HeaderTable.STATIC_TABLE
_STATIC_SIZE = len(_STATIC)


class BlockDecoder(Decoder):
    """hpack's decoder of one connection, with the same results and the same errors.

    Attributes:
        changes: how often the table has changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self._kept: dict[bytes, Fields] = {}
        self._again: Fields | Exception | None = None

    def read(self, block: bytes) -> Fields:
        """Return a block's headers; the list is shared and not to be changed.

        Raises:
            HPACKError: as hpack's own.
        """
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        table = self.header_table
        entries = table.dynamic_entries
        before = len(entries), entries[0] if entries else None, table.maxsize
        try:
            fields = self._read(block)
        finally:
            # An entry that was added is an object of its own at the front; nothing else adds or drops any.
            same = len(entries) == before[0] and (not entries or entries[0] is before[1]) and table.maxsize == before[2]
            if not same:
                self.changes += 1
                self._kept.clear()
        if same and len(block) <= _KEPT_SIZE:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
                self.changes += 1  # whoever keeps anything by these blocks forgets it too
            self._kept[block] = fields
        return fields

    def keeps(self, block: bytes) -> bool:
        """Whether a block means the same again, and changes nothing, as long as `changes` is what it is."""
        return block in self._kept

    def read_again(self, read: Fields | Exception) -> None:
        """Let the next `decode` be the one that has been read already, and return its fields or raise its error."""
        self._again = read

    def decode(self, data: bytes, raw: bool = False) -> Sequence[HeaderTuple]:
        """As hpack's."""
        if not raw:
            return super().decode(data, raw)  # type: ignore[return-value]
        fields, self._again = self._again, None
        if isinstance(fields, Exception):
            raise fields
        if fields is None:
            fields = self.read(bytes(data))
        return [field if isinstance(field, HeaderTuple) else HeaderTuple(*field) for field in fields]

    def _read(self, block: bytes) -> Fields:
        """Read as `Decoder.decode` does, without what that does for each field beside reading it."""
        entries = self.header_table.dynamic_entries
        fields: Fields = []
        position, end, total = 0, len(block), 0
        while position < end:
            first = block[position]
            if 0x80 < first < 0xFF:
                index = first & 0x7F
                place = index - 1 - _STATIC_SIZE
                if place < 0:
                    field = _STATIC[index - 1]
                else:
                    field = entries[place] if place < len(entries) else self.header_table.get_by_index(index)
                used = 1
            elif first >= 0x80:
                field, used = self._decode_indexed(block[position:])
            elif first & 0x40:
                field, used = self._decode_literal_index(block[position:])
            elif first & 0x20:
                if fields:
                    raise HPACKDecodingError("Table size update not at the start of the block")
                position += self._update_encoding_context(block[position:])
                continue
            else:
                field, used = self._decode_literal_no_index(block[position:])
            fields.append(field)
            total += table_entry_size(field[0], field[1])
            if total > self.max_header_list_size:
                text = f"A header list larger than {self.max_header_list_size} has been received"
                raise OversizedHeaderListError(text)
            position += used
        self._assert_valid_table_size()
        return fields
