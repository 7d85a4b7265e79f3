"""Verifies the tables of a satellite."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdcctl.verify import satellites
from cdcctl.verify.canonical import RowComparer, RowValues
from cdcctl.verify.compare import Difference, TableResult, compare, compare_static, run_sharing_fences
from cdcctl.verify.fence import Fence
from cdcctl.verify.source import SourceTable, tables
from cdckit.change import Table
from cdckit.errors import SatelliteError, UsageError
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from consumers.filters.selection import matches_any
from consumers.kcl.leases import LeaseTable
from consumers.stream.reader import kinesis_client
from producer.decoding.table_filter import TableFilter
from producer.masking.rules import parse_masks, rule_of
from producer.postgres.connection import Source


@dataclass(frozen=True, slots=True)
class Verification:
    """The verification of one satellite. `fence` waits until the satellite has applied all earlier commits."""

    source: Source
    settings: Settings
    satellite: str
    fence: Callable[[], Lsn]
    rate: float | None = None

    def tables(self, globs: Sequence[str]) -> list[Table]:
        """The published tables that match `globs`. Raises UsageError when there are none."""
        published = TableFilter.parse(self.settings.table, self.settings.exclude_table)
        found = [
            table
            for table in tables(self.source)
            if published.wants(table) and (not globs or matches_any(tuple(globs), table))
        ]
        if not found:
            raise UsageError(
                f"no published table matches {', '.join(globs) or 'anything'}",
                "use orders, 'public.*' or public.orders",
            )
        return found

    def run(self, selected: Sequence[Table], report: Callable[[Table, str], None]) -> list[TableResult]:
        """Compare the tables; one result each. Raises SourceError, StreamError, SatelliteError."""
        found = list[tuple[TableResult, str]]()
        for start in range(0, len(selected), _TABLES_PER_FENCE):
            steps = [self._table(table, report) for table in selected[start : start + _TABLES_PER_FENCE]]
            found += run_sharing_fences(steps, self.fence)
        missing = [error for _, error in found if error]
        if missing and len(missing) == len(found):  # no table exists: the satellite itself is missing
            raise SatelliteError(f"{self.satellite} holds none of the tables: {missing[-1]}", _WRONG_FOLDER_HINT)
        return [result for result, _ in found]

    def _table(
        self, table: Table, report: Callable[[Table, str], None]
    ) -> Generator[None, Lsn, tuple[TableResult, str]]:
        side, missing = SourceTable.open(self.source, table, self.rate), list[str]()
        columns = satellites.compared_columns(self.settings, self.satellite, table, side.columns)
        if columns is None:
            return TableResult(table, skipped="excluded by the search mapping"), ""
        if not side.key:
            return TableResult(table, skipped="no primary key: its rows cannot be distinguished"), ""
        masks = parse_masks(self.settings.mask)
        if any(rule_of(masks, table, column.name) for column in side.key):
            return TableResult(table, skipped="its key is masked"), ""
        columns = [column for column in columns if rule_of(masks, table, column.name) is None]

        def satellite_rows() -> Iterator[tuple[str, RowValues]]:
            try:
                yield from satellites.rows(self.settings, self.satellite, table, columns)
            except SatelliteError as error:  # a table without changes so far
                missing.append(error.message)

        found = yield from compare(side, RowComparer(columns), satellite_rows, lambda text: report(table, text))
        return found, missing[-1] if missing and found.rows else ""


def compare_now(source: Source, settings: Settings, satellite: str, selected: Iterable[Table]) -> list[Difference]:
    """Every key that differs now, without waiting: for small tables without concurrent changes."""
    found: list[Difference] = []
    for table in selected:
        side = SourceTable.open(source, table)
        try:
            satellite_rows = dict(satellites.rows(settings, satellite, table, side.columns))
        except SatelliteError:  # nothing was applied yet
            satellite_rows = {}
        found += compare_static(side, RowComparer(side.columns), satellite_rows.items)
    return found


def open_fence(
    source: Source, settings: Settings, consumer: str, timeout: float, stopping: Callable[[], bool]
) -> Fence:
    """The fence of one consumer, with the standard AWS settings. Raises StreamError."""
    leases = LeaseTable(settings.application(consumer))
    return Fence(source, settings, consumer, kinesis_client(), leases, timeout, stopping)


_TABLES_PER_FENCE = 16  # tables that share fences; each uses half a megabyte for sums, plus its differences
_WRONG_FOLDER_HINT = "is --data (CDC_DATA) the folder that the consumer writes to?"
