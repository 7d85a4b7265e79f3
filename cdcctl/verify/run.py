"""Verifies a satellite: each table in its turn."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdcctl.verify import satellites
from cdcctl.verify.canonical import Canon, Row
from cdcctl.verify.compare import Difference, Verdict, at_rest, compare, side_by_side
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
    """One satellite against its source. `fence` waits until the satellite has what was committed until then."""

    source: Source
    settings: Settings
    satellite: str
    fence: Callable[[], Lsn]
    rate: float | None = None

    def tables(self, globs: Sequence[str]) -> list[Table]:
        """The tables that the producer publishes and that match. Raises UsageError when there are none."""
        published = TableFilter.parse(self.settings.table, self.settings.exclude_table)
        found = [
            table
            for table in tables(self.source)
            if published.wants(table) and (not globs or matches_any(tuple(globs), table))
        ]
        if not found:
            raise UsageError(
                f"no published table matches {', '.join(globs) or 'anything'}",
                "write orders, 'public.*' or public.orders",
            )
        return found

    def run(self, wanted: Sequence[Table], tell: Callable[[Table, str], None]) -> list[Verdict]:
        """The verdict on each table. Raises SourceError, StreamError, SatelliteError."""
        found = list[tuple[Verdict, str]]()
        for start in range(0, len(wanted), _TOGETHER):
            steps = [self._table(table, tell) for table in wanted[start : start + _TOGETHER]]
            found += side_by_side(steps, self.fence)
        missing = [error for _, error in found if error]
        if missing and len(missing) == len(found):  # not one table is there: it is the satellite that is missing
            raise SatelliteError(f"{self.satellite} holds none of the tables: {missing[-1]}", _WHERE)
        return [verdict for verdict, _ in found]

    def _table(self, table: Table, tell: Callable[[Table, str], None]) -> Generator[None, Lsn, tuple[Verdict, str]]:
        side, missing = SourceTable.open(self.source, table, self.rate), list[str]()
        columns = satellites.kept(self.settings, self.satellite, table, side.columns)
        if columns is None:
            return Verdict(table, skipped="the search mapping leaves it out"), ""
        if not side.key:
            return Verdict(table, skipped="no primary key: its rows cannot be told apart"), ""
        masks = parse_masks(self.settings.mask)
        if any(rule_of(masks, table, column.name) for column in side.key):
            return Verdict(table, skipped="its key is masked"), ""
        columns = [column for column in columns if rule_of(masks, table, column.name) is None]

        def theirs() -> Iterator[tuple[str, Row]]:
            try:
                yield from satellites.rows(self.settings, self.satellite, table, columns)
            except SatelliteError as error:  # a table without any change yet
                missing.append(error.message)

        found = yield from compare(side, Canon(columns), theirs, lambda text: tell(table, text))
        return found, missing[-1] if missing and found.rows else ""


def differences_now(source: Source, settings: Settings, satellite: str, wanted: Iterable[Table]) -> list[Difference]:
    """Every key that differs at this moment, without waiting: for small tables when nothing changes."""
    found: list[Difference] = []
    for table in wanted:
        side = SourceTable.open(source, table)
        try:
            theirs = dict(satellites.rows(settings, satellite, table, side.columns))
        except SatelliteError:  # nothing has come yet
            theirs = {}
        found += at_rest(side, Canon(side.columns), theirs.items)
    return found


def open_fence(
    source: Source, settings: Settings, consumer: str, patience: float, stopping: Callable[[], bool]
) -> Fence:
    """The fence of one consumer, by the standard AWS settings. Raises StreamError."""
    leases = LeaseTable(settings.application(consumer))
    return Fence(source, settings, consumer, kinesis_client(), leases, patience, stopping)


_TOGETHER = 16  # tables that share their fences: each takes half a megabyte of sums, and what differs of it
_WHERE = "is --data (CDC_DATA) the folder that the consumer writes to?"
