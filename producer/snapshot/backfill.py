"""Backfill: publishes the rows of tables anew, beside a live producer, as a process of its own.

It needs no agreement with the producer: see `producer.snapshot.watermark`. The slot must exist, so that every change
after the watermarks is on the stream, or will be.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from cdckit.change import Table
from cdckit.errors import SlotLost, SourceError, UsageError
from cdckit.runtime.settings import Settings
from producer.decoding.table_filter import TableFilter
from producer.kinesis.claim_check import open_oversize
from producer.kinesis.publisher import open_target
from producer.kinesis.stream import Stream, kinesis_client
from producer.masking.key import open_masks
from producer.postgres.catalog import shapes
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.preflight import prepare
from producer.records import Origin
from producer.snapshot.coordinator import WORKERS, Figures, Tell, Wanted, Where, begun, fill
from producer.snapshot.reset import reset

logger = logging.getLogger(__name__)


@contextmanager
def opened(settings: Settings) -> Iterator[Where]:
    """Source and stream, checked as the producer checks them. Raises SourceError, StreamError, UsageError."""
    stream, dsn, masks = Stream(kinesis_client(), settings.stream), SourceDsn(settings), open_masks(settings)

    def no_slot(_source: Source, _origin: Origin) -> None:
        raise SlotLost(
            f"there is no slot {settings.slot!r}: changes made meanwhile would be lost",
            "start cdcctl producer run first",
        )

    origin = prepare(replace(settings, dsn=dsn()), stream, masks, make_slot=no_slot)
    target = open_target(stream, open_oversize(settings.oversize, settings.source))
    try:
        yield Where(settings, dsn, origin, masks, target)
    finally:
        target.close()


def chosen(settings: Settings, names: Sequence[str]) -> list[Table]:
    """The published tables that these names or globs mean; all of them without any.

    Raises UsageError for a name that means none, SourceError.
    """
    published = TableFilter.parse(settings.table, settings.exclude_table)
    with closing(Source(SourceDsn(settings)())) as source:
        there = [shape.table for shape in shapes(source, published.wants)]
    found = dict.fromkeys(table for name in names for table in _meant(name, there))
    return list(found) if names else there


@dataclass(frozen=True, slots=True)
class Asked:
    """A backfill: rows of these tables that satisfy `where` (SQL), at most `rate` a second, read by so many threads."""

    tables: Sequence[Table]
    where: str = ""
    rate: float | None = None
    workers: int = WORKERS
    reset: bool = False
    """Whether satellites must forget all rows of the tables first."""
    reason: str = ""
    """Why; a run is continued by one with the same reason."""


def backfill(settings: Settings, asked: Asked, stopping: Callable[[], bool], tell: Tell) -> tuple[Figures, bool]:
    """Publish the rows, going on where an earlier run with the same tables and condition ended.

    True when all of them are on the stream. Raises SourceError, StreamError, UsageError.
    """
    with opened(settings) as place:
        _check_where(place, asked)
        parts = [settings.source, settings.stream, asked.where, *map(str, sorted(asked.tables))]
        text = "\n".join([*parts, asked.reason] if asked.reason else parts)
        name = f"backfill-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        if asked.reset and not begun(settings, name):  # rows of an earlier run would stand below a second reset
            _reset(place, asked)
        wanted = Wanted(name, "backfill", asked.tables, asked.where, asked.rate, asked.workers)
        return fill(place, wanted, stopping, tell)


def _reset(place: Where, asked: Asked) -> None:
    with closing(Source(place.dsn())) as source:
        for table in asked.tables:
            reset(place, source, table, asked.reason)


def _check_where(place: Where, asked: Asked) -> None:
    if not asked.where:
        return
    with closing(Source(place.dsn())) as source:
        for table in asked.tables:
            try:
                source.query(f"EXPLAIN SELECT FROM ONLY {table} WHERE ({asked.where}\n)")
            except SourceError as error:
                raise UsageError(
                    f"--where does not fit {table}: {error.message}", "write a condition in SQL"
                ) from error


def _meant(name: str, there: Sequence[Table]) -> list[Table]:
    try:
        exact = [table for table in there if table == Table.parse(name)]
    except ValueError:
        exact = []
    found = exact or [table for table in there if TableFilter((name,)).wants(table)]
    if not found:
        known = ", ".join(map(str, there[:10])) or "none"
        raise UsageError(f"no published table is called {name!r}", f"tables: {known}{' …' if len(there) > 10 else ''}")
    return found
