"""The position of a change: LSNs, and the total order over all changes of a source."""

from __future__ import annotations

import struct

import msgspec

_PACK = struct.Struct(">IQI").pack
_unhex, _number = bytes.fromhex, int.from_bytes


class Lsn(int):
    """A byte position in PostgreSQL's write-ahead log, printed as PostgreSQL prints it (``16/B374D848``)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Parse an LSN.

        Raises:
            ValueError: `text` is not an LSN.

        Example:
            >>> int(Lsn.parse("16/B374D848")), str(Lsn(1))
            (97500059720, '0/1')

        """
        high, _, low = text.partition("/")
        try:  # this runs twice per record: `fromhex` is fast, and accepts neither signs nor prefixes as `int` does
            eight = _unhex(high.rjust(8, "0") + low.rjust(8, "0"))
        except ValueError:
            eight = b""
        if len(eight) != 8 or not high or not low:
            raise ValueError(f"not an LSN: {text!r} (expected like 16/B374D848)")
        return cls(_number(eight))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn('{self}')"


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """``(epoch, commit_lsn, index)``: idempotency key and sort key of history.

    A total order over one source: the transaction's commit LSN, then the change's ordinal in the transaction.
    A higher epoch (another server, or a restored one) is above every position of a lower one.
    """

    epoch: int
    commit_lsn: Lsn
    index: int

    @property
    def sort_key(self) -> str:
        """32 hexadecimal digits whose text order is the order of positions; what satellites store and compare."""
        return _PACK(self.epoch, self.commit_lsn, self.index).hex()

    @classmethod
    def from_sort_key(cls, text: str) -> Position:
        """Parse a `sort_key`.

        Raises:
            ValueError: `text` is not 32 hexadecimal digits.

        Example:
            >>> position = Position.parse("1:16/B374D848:3")
            >>> Position.from_sort_key(position.sort_key) == position
            True

        """
        if len(text) != 32:
            raise ValueError(f"not a position's sort key: {text!r}")
        return cls(int(text[:8], 16), Lsn(int(text[8:24], 16)), int(text[24:], 16))

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse what `str` returns, ``1:16/B374D848:3``. Raises ValueError otherwise."""
        epoch, _, rest = text.partition(":")
        lsn, _, index = rest.partition(":")
        return cls(int(epoch), Lsn.parse(lsn), int(index))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.commit_lsn}:{self.index}"
