"""Whether a satellite equals the source, row by row and cell by cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cdckit.change import Table, Value
from cdckit.errors import SatelliteError
from consumers.audit import query as audit
from consumers.parquet.current import current_rows as parquet_rows
from consumers.search import query as search
from producer.rows import table_rows
from producer.source import Source

_TIME = re.compile(r"\d\d:\d\d:\d\d\.\d+")
_FRACTION = re.compile(r"(\.\d+)")
Rows = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key at which a satellite and the source differ; a side that lacks the row is None."""

    table: Table
    key: str
    source: Mapping[str, Value] | None
    satellite: Mapping[str, Value] | None

    def __str__(self) -> str:
        if self.satellite is None:
            return f"{self.table} {self.key}: missing in the satellite"
        if self.source is None:
            return f"{self.table} {self.key}: only in the satellite"
        mine, other = self.source, self.satellite
        columns = [name for name in {**mine, **other} if not _same(mine.get(name), other.get(name))]
        shown = ", ".join(f"{name} ({mine.get(name)!r}, there {other.get(name)!r})" for name in columns)
        return f"{self.table} {self.key}: differs in {shown or 'its columns'}"


def differences(
    source: Source, satellite: str, folder: Path, source_id: str, tables: Iterable[Table]
) -> list[Difference]:
    """Every key at which the satellite differs from the tables as they are now."""
    found: list[Difference] = []
    for table in tables:
        try:
            theirs = dict(_LOADERS[satellite](folder, source_id, table))
        except SatelliteError:
            theirs = {}
        found += _compare(table, table_rows(source, table), theirs)
    return found


def _compare(table: Table, ours: Rows, theirs: Rows) -> Iterable[Difference]:
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key), theirs.get(key)
        if mine is None or other is None or not _equal(mine, other):
            yield Difference(table, key, mine, other)


def _equal(mine: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    return mine.keys() == other.keys() and all(_same(value, other[name]) for name, value in mine.items())


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return _plain(one) == _plain(other)
    return one == other and (type(one) is bool) == (type(other) is bool)


def _plain(text: str) -> str:
    """A time of day without trailing zeros: a satellite that stores it as a number gives them back differently."""
    return _FRACTION.sub(lambda found: found[1].rstrip("0").rstrip("."), text) if _TIME.search(text) else text


def _search_rows(folder: Path, source: str, table: Table) -> Iterable[tuple[str, Mapping[str, Value]]]:
    return ((key, values) for key, values, _ in search.documents(folder, source, table))


def _audit_rows(folder: Path, source: str, table: Table) -> Iterable[tuple[str, Mapping[str, Value]]]:
    return audit.current_rows(folder, source, table).items()


_LOADERS: Mapping[str, Callable[[Path, str, Table], Iterable[tuple[str, Mapping[str, Value]]]]] = {
    "search": _search_rows,
    "parquet": parquet_rows,
    "audit": _audit_rows,
}
