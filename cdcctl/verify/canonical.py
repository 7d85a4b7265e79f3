"""Converts rows of source and satellite to one canonical text, and computes hashes of it. No I/O."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from zlib import crc32

from cdckit.change import Value

RANGES = 65_536
NUMBERS = frozenset(("int2", "int4", "int8", "float4", "float8", "numeric"))
_TIMES = frozenset(("time", "timetz", "timestamp", "timestamptz"))
_FRACTION = re.compile(r"(\.\d+)")
_MASK = (1 << 64) - 1
_MAX_PRINTED_BITS = 10_000  # Python does not print much longer integers
RowValues = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column of the source: `kind` is the name of its type in pg_type, `type` the type in SQL."""

    name: str
    kind: str
    type: str


class RowComparer:
    """Compares rows of one table by the source's columns; additional columns of a satellite are ignored.

    A column that is missing in the satellite equals NULL, because ADD COLUMN produces no change. Numbers are compared
    by value, without regard to zeros, and fractions of seconds without trailing zeros.
    """

    def __init__(self, columns: Sequence[SourceColumn]) -> None:
        """`columns` are the columns to compare."""
        self._columns = [(column.name, _printer(column.kind)) for column in columns]

    def text(self, row: RowValues) -> str:
        """The canonical text of a row: two rows are equal when their texts are equal."""
        return "\x1f".join(
            "" if (value := row.get(name)) is None else "=" + printed(value) for name, printed in self._columns
        )

    def digest(self, key: str, row: RowValues) -> int:
        """A 64-bit hash of key and row."""
        return int.from_bytes(blake2b(f"{key}\x1e{self.text(row)}".encode(), digest_size=8).digest())

    def differing(self, first: RowValues, second: RowValues) -> list[str]:
        """The names of the columns in which two rows differ."""
        return [name for name, printed in self._columns if _text(first, name, printed) != _text(second, name, printed)]


class RangeSums:
    """Sums of row digests per range of keys: of constant size, and independent of the order of rows."""

    def __init__(self) -> None:
        """Start with no rows."""
        self.rows = 0
        self._sums = array("Q", bytes(8 * RANGES))

    def add(self, key: str, digest: int) -> None:
        """Add one row."""
        index = range_of(key)
        self._sums[index] = (self._sums[index] + digest) & _MASK
        self.rows += 1

    def differing(self, other: RangeSums) -> frozenset[int]:
        """The ranges whose sums differ."""
        pairs = zip(self._sums, other._sums, strict=True)
        return frozenset(index for index, (mine, theirs) in enumerate(pairs) if mine != theirs)


def range_of(key: str) -> int:
    """The range of a key, from its hash, so that ranges have similar sizes."""
    return crc32(key.encode()) % RANGES


def _text(row: RowValues, name: str, printed: Callable[[Value], str]) -> str | None:
    value = row.get(name)
    return None if value is None else printed(value)


def _printer(kind: str) -> Callable[[Value], str]:
    if kind in NUMBERS:
        return _number
    if kind == "bool":
        return lambda value: "t" if value in (True, "t", "true") else "f"
    if kind in _TIMES:
        return lambda value: _FRACTION.sub(lambda match: match[1].rstrip("0").rstrip("."), str(value))
    if kind == "bytea":
        return lambda value: str(value).removeprefix("\\x")
    return str


def _number(value: Value) -> str:
    if isinstance(value, int) and value.bit_length() < _MAX_PRINTED_BITS:
        text = str(value)
        digits = text.rstrip("0")
        return f"{digits}e{len(text) - len(digits)}" if digits else "0"
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value) if isinstance(value, str) else value or 0)
    except InvalidOperation:  # a satellite still has a text of an older type of the column
        return f"text {value}"
    sign, parts, exponent = number.as_tuple()
    digits = "".join(map(str, parts)).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped or not isinstance(exponent, int):
        return "0"
    return f"{'-' * sign}{stripped}e{exponent + len(digits) - len(stripped)}"
