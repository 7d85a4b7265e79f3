"""Compares one table of a satellite with the source while changes keep flowing, without a false alarm.

First the hashes of key ranges; then, in the ranges that differ, the digest of each row; then the rows themselves, read
from the source before a fence and again after the satellite was read behind it. A row that did not change meanwhile
must be the same on both sides. One that did may be older or newer there: it is looked at again. A difference is told
only when two looks in a row show the same two rows.

A fence takes as long as the satellite's checkpoints are apart, so the tables share them: a comparison is a generator
that stops where it needs a fence, and `side_by_side` raises one for all that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cdcctl.verify.canonical import Canon, RangeSums, Row, range_of
from cdcctl.verify.source import SourceTable
from cdckit.change import NO_LSN, Table
from cdckit.position import Lsn

MOST_DIFFERENCES = 1_000
"""When so many keys of a table are known to differ, no more are looked at."""
_AT_FIRST, _AT_ONCE = 2_000, 20_000  # keys that are looked at again: few first, a satellite may be far off
_ROUNDS = 6
Found = TypeVar("Found")
Satellite = Callable[[], Iterable[tuple[str, Row]]]
Progress = Callable[[str], None]
Comparison = Generator[None, Lsn, "Verdict"]
"""Yields where it needs a fence, is sent the one that was passed, returns the verdict."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key at which satellite and source differ; the side that lacks the row is None."""

    table: Table
    key: str
    source: Row | None
    satellite: Row | None
    columns: list[str]

    def __str__(self) -> str:
        if self.satellite is None:
            return f"{self.table} {self.key}: missing in the satellite"
        if self.source is None:
            return f"{self.table} {self.key}: only in the satellite"
        mine, other = self.source, self.satellite
        shown = ", ".join(f"{name} ({mine.get(name)!r}, there {other.get(name)!r})" for name in self.columns)
        return f"{self.table} {self.key}: differs in {shown}"


@dataclass(slots=True)
class Verdict:
    """What was found of one table. `rows` are the source's, `fence` is the last that was passed.

    `suspects` counts keys whose digests differed; all are looked at before a table is called equal, and `looked_at` is
    smaller only when `MOST_DIFFERENCES` were found among those. `unsettled` rows changed at every look. `unverifiable`
    cells are NaN or infinite in the source, which wal2json writes as null. `skipped` says why a table was not compared
    at all.
    """

    table: Table
    rows: int = 0
    fence: Lsn = NO_LSN
    differences: list[Difference] = field(default_factory=list)
    suspects: int = 0
    looked_at: int = 0
    unsettled: int = 0
    unverifiable: int = 0
    skipped: str = ""

    @property
    def equal(self) -> bool:
        """Whether nothing was found to differ, among what could be compared."""
        return not self.differences

    def __str__(self) -> str:
        """The verdict in a few words; what could not be compared is never called equal."""
        if self.skipped:
            return f"not compared: {self.skipped}"
        settled = "~ equal" if self.unsettled else "✓ equal"
        parts = [f"✗ {len(self.differences):,} differ" if self.differences else settled]
        if self.looked_at < self.suspects:
            parts.append(f"of {self.looked_at:,} looked at; {self.suspects:,} suspected")
        parts += [f"but {self.unsettled:,} kept changing: not compared"] if self.unsettled else []
        parts += [f"{self.unverifiable:,} cells are NaN or infinite"] if self.unverifiable else []
        return ", ".join(parts)


def compare(source: SourceTable, canon: Canon, satellite: Satellite, tell: Progress = lambda _: None) -> Comparison:
    """Compare the two sides. `satellite` gives its rows as they are when it is called.

    Raises whatever the sides raise.
    """
    found = Verdict(source.table)
    tell("hashing the source")
    mine = _sums(source.rows(), canon)
    found.rows, found.unverifiable = mine.rows, source.unverifiable
    found.fence = yield
    tell("hashing the satellite")
    ranges = mine.differing(_sums(satellite(), canon))
    if not ranges:
        return found
    tell(f"{len(ranges)} of the key ranges differ: comparing their rows")
    digests = {key: canon.digest(key, row) for key, row in source.rows() if range_of(key) in ranges}
    found.fence = yield
    suspects = _suspects(digests, ((key, row) for key, row in satellite() if range_of(key) in ranges), canon)
    found.suspects = len(suspects)
    ordered, size = sorted(suspects), _AT_FIRST
    while found.looked_at < len(ordered) and len(found.differences) < MOST_DIFFERENCES:
        some = ordered[found.looked_at : found.looked_at + size]
        found.looked_at, size = found.looked_at + len(some), _AT_ONCE
        yield from _settle(found, source, canon, satellite, some, tell)
    return found


def side_by_side(steps: Sequence[Generator[None, Lsn, Found]], fence: Callable[[], Lsn]) -> list[Found]:
    """What each of them returns; all that wait for a fence get the same one. Raises what they and the fence raise."""
    done, waiting = dict[int, Found](), dict(enumerate(steps))
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


def at_rest(source: SourceTable, canon: Canon, satellite: Satellite) -> list[Difference]:
    """Every key that differs now, without a fence: for small tables when nothing changes."""
    mine, theirs = dict(source.rows()), dict(satellite())
    return [
        _difference(source.table, key, mine.get(key), theirs.get(key), canon)
        for key in sorted(mine.keys() | theirs.keys())
        if not _same(mine.get(key), theirs.get(key), canon)
    ]


def _sums(rows: Iterable[tuple[str, Row]], canon: Canon) -> RangeSums:
    sums = RangeSums()
    for key, row in rows:
        sums.add(key, canon.digest(key, row))
    return sums


def _suspects(digests: dict[str, int], rows: Iterable[tuple[str, Row]], canon: Canon) -> set[str]:
    differing = {key for key, row in rows if digests.pop(key, None) != canon.digest(key, row)}
    return differing | digests.keys()  # what is left there, the satellite lacks


def _settle(
    found: Verdict, source: SourceTable, canon: Canon, satellite: Satellite, keys: Iterable[str], tell: Progress
) -> Generator[None, Lsn, None]:
    open_keys, seen = set(keys), dict[str, Difference]()
    for _ in range(_ROUNDS):
        if not open_keys:
            break
        tell(f"looking at {len(open_keys)} rows again")
        before = source.lookup(open_keys)
        found.fence = yield
        theirs = {key: row for key, row in satellite() if key in open_keys}
        after = source.lookup(open_keys)
        for key in sorted(open_keys):
            mine, other = _row(after, key), theirs.get(key)
            if _same(mine, other, canon) or _same(_row(before, key), other, canon):
                open_keys.discard(key)
            elif before.get(key, (None, ""))[1] == after.get(key, (None, ""))[1]:  # it did not change meanwhile
                difference = _difference(found.table, key, mine, other, canon)
                if seen.get(key) == difference:
                    found.differences.append(difference)
                    open_keys.discard(key)
                seen[key] = difference
    found.unsettled += len(open_keys)


def _row(rows: Mapping[str, tuple[Row, str]], key: str) -> Row | None:
    return rows[key][0] if key in rows else None


def _same(mine: Row | None, other: Row | None, canon: Canon) -> bool:
    if mine is None or other is None:
        return mine is other
    return canon.text(mine) == canon.text(other)


def _difference(table: Table, key: str, mine: Row | None, other: Row | None, canon: Canon) -> Difference:
    columns = canon.differing(mine, other) if mine is not None and other is not None else []
    return Difference(table, key, mine, other, columns)
