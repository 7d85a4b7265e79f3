"""Compares one table of a satellite with the source while changes continue, without false alarms.

It compares hashes of key ranges, then row digests in the ranges that differ, then the rows of the suspect keys. Each of
these rows is read from the source before a fence, from the satellite after it, and from the source again. A row that
was constant in the source must be equal in the satellite. A row that changed may be older or newer there and is checked
again. A difference is reported only when two consecutive checks show the same two rows.

A fence takes as long as the interval between the satellite's checkpoints, so the tables share fences: a comparison is a
generator that yields where it needs a fence, and `run_sharing_fences` sets one fence for all waiting comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cdcctl.verify.canonical import RangeSums, RowComparer, RowValues, range_of
from cdcctl.verify.source import SourceTable
from cdckit.change import NO_LSN, Table
from cdckit.position import Lsn

MAX_DIFFERENCES = 1_000
"""The comparison of a table stops after this number of differences."""
_FIRST_BATCH, _NEXT_BATCH = 2_000, 20_000  # suspect keys checked together; the first batch may suffice
_MAX_ROUNDS = 6
T = TypeVar("T")
RowSource = Callable[[], Iterable[tuple[str, RowValues]]]
Reporter = Callable[[str], None]
Comparison = Generator[None, Lsn, "TableResult"]
"""Yields where it needs a fence, is sent the LSN of that fence, and returns the result."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key for which satellite and source differ. A side without the row is None."""

    table: Table
    key: str
    source: RowValues | None
    satellite: RowValues | None
    columns: list[str]

    def __str__(self) -> str:
        if self.satellite is None:
            return f"{self.table} {self.key}: missing in the satellite"
        if self.source is None:
            return f"{self.table} {self.key}: only in the satellite"
        source, satellite = self.source, self.satellite
        values = (f"{name} (source {source.get(name)!r}, satellite {satellite.get(name)!r})" for name in self.columns)
        return f"{self.table} {self.key}: differs in {', '.join(values)}"


@dataclass(slots=True)
class TableResult:
    """The result for one table. `rows` counts the rows of the source, `fence` is the last fence.

    `suspects` is the number of keys whose digests differed. All of them are checked before a table is called equal;
    `checked` is smaller only when `MAX_DIFFERENCES` were result. `unsettled` rows changed during every check.
    `unverifiable` cells are NaN or infinite in the source, which wal2json writes as null. `skipped` is the reason why
    a table was not compared.
    """

    table: Table
    rows: int = 0
    fence: Lsn = NO_LSN
    differences: list[Difference] = field(default_factory=list)
    suspects: int = 0
    checked: int = 0
    unsettled: int = 0
    unverifiable: int = 0
    skipped: str = ""

    @property
    def equal(self) -> bool:
        """Whether no difference was found in the rows that could be compared."""
        return not self.differences

    def __str__(self) -> str:
        """A short description. Rows that could not be compared are never called equal."""
        if self.skipped:
            return f"not compared: {self.skipped}"
        settled = "~ equal" if self.unsettled else "✓ equal"
        parts = [f"✗ {len(self.differences):,} differ" if self.differences else settled]
        if self.checked < self.suspects:
            parts.append(f"{self.checked:,} of {self.suspects:,} suspect keys checked")
        parts += [f"{self.unsettled:,} rows not compared: they kept changing"] if self.unsettled else []
        parts += [f"{self.unverifiable:,} cells are NaN or infinite"] if self.unverifiable else []
        return ", ".join(parts)


def compare(
    source: SourceTable, comparer: RowComparer, satellite: RowSource, report: Reporter = lambda _: None
) -> Comparison:
    """Compare a table of the source with `satellite`, which returns the satellite's current rows on every call.

    Raises what the two sides raise.
    """
    result = TableResult(source.table)
    report("hashing the source")
    sums = _sums(source.rows(), comparer)
    result.rows, result.unverifiable = sums.rows, source.unverifiable
    result.fence = yield
    report("hashing the satellite")
    ranges = sums.differing(_sums(satellite(), comparer))
    if not ranges:
        return result
    report(f"comparing the rows of {len(ranges)} key ranges that differ")
    digests = {key: comparer.digest(key, row) for key, row in source.rows() if range_of(key) in ranges}
    result.fence = yield
    suspects = _suspects(digests, ((key, row) for key, row in satellite() if range_of(key) in ranges), comparer)
    result.suspects = len(suspects)
    ordered, size = sorted(suspects), _FIRST_BATCH
    while result.checked < len(ordered) and len(result.differences) < MAX_DIFFERENCES:
        batch = ordered[result.checked : result.checked + size]
        result.checked, size = result.checked + len(batch), _NEXT_BATCH
        yield from _check_keys(result, source, comparer, satellite, batch, report)
    return result


def run_sharing_fences(steps: Sequence[Generator[None, Lsn, T]], fence: Callable[[], Lsn]) -> list[T]:
    """Run comparisons; all that wait for a fence get the same one. Raises what they and the fence raise."""
    done, waiting = dict[int, T](), dict(enumerate(steps))
    passed: Lsn | None = None
    while waiting:
        for number, step in list(waiting.items()):
            try:
                next(step) if passed is None else step.send(passed)
            except StopIteration as ended:
                done[number] = ended.value
                del waiting[number]
        passed = fence() if waiting else None
    return [done[number] for number in sorted(done)]


def compare_static(source: SourceTable, comparer: RowComparer, satellite: RowSource) -> list[Difference]:
    """Every key that differs now, without a fence: for small tables without concurrent changes."""
    source_rows, satellite_rows = dict(source.rows()), dict(satellite())
    return [
        _difference(source.table, key, source_rows.get(key), satellite_rows.get(key), comparer)
        for key in sorted(source_rows.keys() | satellite_rows.keys())
        if not _same(source_rows.get(key), satellite_rows.get(key), comparer)
    ]


def _sums(rows: Iterable[tuple[str, RowValues]], comparer: RowComparer) -> RangeSums:
    sums = RangeSums()
    for key, row in rows:
        sums.add(key, comparer.digest(key, row))
    return sums


def _suspects(digests: dict[str, int], rows: Iterable[tuple[str, RowValues]], comparer: RowComparer) -> set[str]:
    differing = {key for key, row in rows if digests.pop(key, None) != comparer.digest(key, row)}
    return differing | digests.keys()  # the remaining keys are missing in the satellite


def _check_keys(
    result: TableResult,
    source: SourceTable,
    comparer: RowComparer,
    satellite: RowSource,
    keys: Iterable[str],
    report: Reporter,
) -> Generator[None, Lsn, None]:
    open_keys, candidates = set(keys), dict[str, Difference]()
    for _ in range(_MAX_ROUNDS):
        if not open_keys:
            break
        report(f"checking {len(open_keys)} rows again")
        before = source.lookup(open_keys)
        result.fence = yield
        satellite_rows = {key: row for key, row in satellite() if key in open_keys}
        after = source.lookup(open_keys)
        for key in sorted(open_keys):
            source_row, satellite_row = _row(after, key), satellite_rows.get(key)
            if _same(source_row, satellite_row, comparer) or _same(_row(before, key), satellite_row, comparer):
                open_keys.discard(key)
            elif before.get(key, (None, ""))[1] == after.get(key, (None, ""))[1]:  # constant in the source
                difference = _difference(result.table, key, source_row, satellite_row, comparer)
                if candidates.get(key) == difference:
                    result.differences.append(difference)
                    open_keys.discard(key)
                candidates[key] = difference
    result.unsettled += len(open_keys)


def _row(rows: Mapping[str, tuple[RowValues, str]], key: str) -> RowValues | None:
    return rows[key][0] if key in rows else None


def _same(source_row: RowValues | None, satellite_row: RowValues | None, comparer: RowComparer) -> bool:
    if source_row is None or satellite_row is None:
        return source_row is satellite_row
    return comparer.text(source_row) == comparer.text(satellite_row)


def _difference(
    table: Table, key: str, source_row: RowValues | None, satellite_row: RowValues | None, comparer: RowComparer
) -> Difference:
    columns = list[str]()
    if source_row is not None and satellite_row is not None:
        columns = comparer.differing(source_row, satellite_row)
    return Difference(table, key, source_row, satellite_row, columns)
