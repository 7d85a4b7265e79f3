"""Backfill: publishes the rows of tables again, beside a live producer, in a process of its own.

It needs no coordination with the producer: see `producer.snapshot.watermark`. The slot must exist, so that every change
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
from producer.kinesis.claim_check import open_claim_check
from producer.kinesis.stream import Stream, kinesis_client
from producer.kinesis.target import open_target
from producer.masking.mask_key import open_masker
from producer.postgres.catalog import quote_table, relations
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.preflight import prepare
from producer.records import Origin
from producer.snapshot.coordinator import DEFAULT_WORKERS, Endpoints, SnapshotRequest, has_plan, run_snapshot
from producer.snapshot.progress import ProgressCallback, SnapshotProgress
from producer.snapshot.reset import publish_reset

logger = logging.getLogger(__name__)


class _SlotRequired:
    """A backfill creates no slot, and publishes no other rows than the requested ones."""

    def __init__(self, slot: str) -> None:
        self._slot = slot

    def create_slot(self, _source: Source, _origin: Origin, /) -> None:
        raise SlotLost(
            f"there is no slot {self._slot!r}: changes made during the backfill would be lost",
            "start cdcctl producer run first",
        )

    def first_run(self, _origin: Origin, /) -> None:
        """Nothing else is due."""


@contextmanager
def open_endpoints(settings: Settings) -> Iterator[Endpoints]:
    """Check source and stream as the producer does, and open them. Raises SourceError, StreamError, UsageError."""
    stream, dsn, masker = Stream(kinesis_client(), settings.stream), SourceDsn(settings), open_masker(settings)

    origin = prepare(replace(settings, dsn=dsn()), stream, masker, first_run=_SlotRequired(settings.slot))
    target = open_target(stream, open_claim_check(settings.oversize, settings.source))
    try:
        yield Endpoints(settings, dsn, origin, masker, target)
    finally:
        target.close()


def select_tables(settings: Settings, names: Sequence[str]) -> list[Table]:
    """Return the published tables that these names or globs match; all of them without names.

    Raises UsageError for a name that matches none, SourceError.
    """
    published = TableFilter.parse(settings.table, settings.exclude_table)
    with closing(Source(SourceDsn(settings)())) as source:
        published_tables = [relation.table for relation in relations(source, published.wants)]
    found = dict.fromkeys(table for name in names for table in _match_tables(name, published_tables))
    return list(found) if names else published_tables


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """A backfill: rows of these tables that satisfy `where` (SQL), at most `rate` per second, read by `workers`."""

    tables: Sequence[Table]
    where: str = ""
    rate: float | None = None
    workers: int = DEFAULT_WORKERS
    reset: bool = False
    """Whether satellites must first forget all rows of the tables."""
    reason: str = ""
    """Why; a run is resumed by one with the same reason."""


def backfill(
    settings: Settings, request: BackfillRequest, stopping: Callable[[], bool], on_progress: ProgressCallback
) -> tuple[SnapshotProgress, bool]:
    """Publish the rows; resume where an earlier run with the same tables and condition ended.

    Returns True when all of them are on the stream. Raises SourceError, StreamError, UsageError.
    """
    with open_endpoints(settings) as endpoints:
        _check_where(endpoints, request)
        parts = [settings.source, settings.stream, request.where, *map(str, sorted(request.tables))]
        text = "\n".join([*parts, request.reason] if request.reason else parts)
        name = f"backfill-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        if request.reset and not has_plan(settings, name):  # rows of an earlier run would be below a second reset
            _reset(endpoints, request)
        snapshot = SnapshotRequest(name, "backfill", request.tables, request.where, request.rate, request.workers)
        return run_snapshot(endpoints, snapshot, stopping, on_progress)


def _reset(endpoints: Endpoints, request: BackfillRequest) -> None:
    with closing(Source(endpoints.dsn())) as source:
        for table in request.tables:
            publish_reset(endpoints, source, table, request.reason or "requested by the user")


def _check_where(endpoints: Endpoints, request: BackfillRequest) -> None:
    if not request.where:
        return
    with closing(Source(endpoints.dsn())) as source:
        for table in request.tables:
            try:
                source.query(f"EXPLAIN SELECT FROM ONLY {quote_table(table)} WHERE ({request.where}\n)")
            except SourceError as error:
                raise UsageError(
                    f"--where does not fit {table}: {error.message}", "write a condition in SQL"
                ) from error


def _match_tables(name: str, published_tables: Sequence[Table]) -> list[Table]:
    try:
        exact = [table for table in published_tables if table == Table.parse(name)]
    except ValueError:
        exact = []
    found = exact or [table for table in published_tables if TableFilter((name,)).wants(table)]
    if not found:
        known = ", ".join(map(str, published_tables[:10])) or "none"
        raise UsageError(
            f"no published table is called {name!r}", f"tables: {known}{' …' if len(published_tables) > 10 else ''}"
        )
    return found
