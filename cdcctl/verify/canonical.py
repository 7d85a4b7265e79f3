"""One text for a row, whichever side it came from, and the hashes made of it; pure."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from zlib import crc32

from cdckit.change import Value

RANGES = 65_536
NUMBERS = frozenset(("int2", "int4", "int8", "float4", "float8", "numeric"))
_TIMES = frozenset(("time", "timetz", "timestamp", "timestamptz"))
_FRACTION = re.compile(r"(\.\d+)")
_MASK = (1 << 64) - 1
_PLAIN_BITS = 10_000  # Python refuses to print much longer integers
Row = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the source: `kind` is its type's name in pg_type, `type` as SQL writes it."""

    name: str
    kind: str
    type: str


class Canon:
    """Makes rows of one table comparable: by the source's columns, so what a satellite has beyond them is ignored.

    A column that the satellite lacks equals NULL (ADD COLUMN rewrites no row, so no change tells of it); a number is
    its value, however many zeros it is written with; a time of day has no trailing zeros.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        """`columns` are those to compare."""
        self._columns = [(column.name, _printer(column.kind)) for column in columns]

    def text(self, row: Row) -> str:
        """The row's canonical text; two rows are equal exactly when it is."""
        return "\x1f".join(
            "" if (value := row.get(name)) is None else "=" + printed(value) for name, printed in self._columns
        )

    def digest(self, key: str, row: Row) -> int:
        """64 bits of key and row."""
        return int.from_bytes(blake2b(f"{key}\x1e{self.text(row)}".encode(), digest_size=8).digest())

    def differing(self, one: Row, other: Row) -> list[str]:
        """The columns in which two rows differ."""
        return [name for name, printed in self._columns if _shown(one, name, printed) != _shown(other, name, printed)]


class RangeSums:
    """A sum of digests for each range of keys: small whatever the table's size, and in any order of rows."""

    def __init__(self) -> None:
        """Empty."""
        self.rows = 0
        self._sums = array("Q", bytes(8 * RANGES))

    def add(self, key: str, digest: int) -> None:
        """Add one row."""
        at = range_of(key)
        self._sums[at] = (self._sums[at] + digest) & _MASK
        self.rows += 1

    def differing(self, other: RangeSums) -> frozenset[int]:
        """The ranges whose sums differ."""
        return frozenset(at for at, (one, two) in enumerate(zip(self._sums, other._sums, strict=True)) if one != two)


def range_of(key: str) -> int:
    """The range of a key: its hash's, so that ranges are even."""
    return crc32(key.encode()) % RANGES


def names(columns: Iterable[Column]) -> list[str]:
    """The columns' names."""
    return [column.name for column in columns]


def _shown(row: Row, name: str, printed: Callable[[Value], str]) -> str | None:
    value = row.get(name)
    return None if value is None else printed(value)


def _printer(kind: str) -> Callable[[Value], str]:
    if kind in NUMBERS:
        return _number
    if kind == "bool":
        return lambda value: "t" if value in (True, "t", "true") else "f"
    if kind in _TIMES:
        return lambda value: _FRACTION.sub(lambda found: found[1].rstrip("0").rstrip("."), str(value))
    if kind == "bytea":
        return lambda value: str(value).removeprefix("\\x")
    return str


def _number(value: Value) -> str:
    if isinstance(value, int) and value.bit_length() < _PLAIN_BITS:
        text = str(value)
        digits = text.rstrip("0")
        return f"{digits}e{len(text) - len(digits)}" if digits else "0"
    number = value if isinstance(value, Decimal) else Decimal(str(value) if isinstance(value, str) else value or 0)
    sign, parts, exponent = number.as_tuple()
    digits = "".join(map(str, parts)).lstrip("0")
    kept = digits.rstrip("0")
    if not kept or not isinstance(exponent, int):
        return "0"
    return f"{'-' * sign}{kept}e{exponent + len(digits) - len(kept)}"
