"""Coordinates a snapshot: publishes existing rows beside the changes, for initial snapshot, backfill and repair.

Each row has a position below all changes that its read did not see (`producer.snapshot.watermark`), so every satellite
prefers those changes, whichever comes first. A range of rows is finished, durably, once the stream has accepted all of
its rows. Worker processes read the ranges (`producer.snapshot.worker_pool`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cdckit.change import Table
from cdckit.errors import SourceError
from cdckit.runtime.settings import Settings
from cdckit.runtime.signals import sleep_until_stopped
from producer.kinesis.target import Target
from producer.masking.masker import Masker
from producer.postgres.catalog import SizedRelation, relations
from producer.postgres.connection import Source
from producer.postgres.replication_slot import ExportedSnapshot
from producer.records import Origin
from producer.snapshot.checkpoint import Plan, SnapshotCheckpoint, TablePlan
from producer.snapshot.chunks import estimate_rows, split_table
from producer.snapshot.progress import ProgressCallback, SnapshotProgress
from producer.snapshot.protocol import (
    BaseSnapshot,
    Job,
    LogLine,
    RangeFinished,
    RangeTask,
    Report,
    RowsAccepted,
    WorkerEnded,
    WorkerFailed,
)
from producer.snapshot.worker_pool import WorkerPool

logger = logging.getLogger(__name__)

ROWS_PER_RANGE = 10_000
DEFAULT_WORKERS = 2
_MAX_RETRY_SECONDS, _PROGRESS_SECONDS = 15.0, 0.5


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the rows come from and where they go."""

    settings: Settings
    dsn: Callable[[], str]
    origin: Origin
    masker: Masker
    target: Target

    def checkpoint(self, name: str) -> SnapshotCheckpoint:
        """Open the checkpoint file of the snapshot with this name."""
        return SnapshotCheckpoint(checkpoint_folder(self.settings) / f"{name}.progress")


def checkpoint_folder(settings: Settings) -> Path:
    """Return the folder of the checkpoint files."""
    return settings.folder / "fills"


def has_plan(settings: Settings, name: str) -> bool:
    """Whether an earlier run of this fill has a plan, which the next one continues."""
    path = checkpoint_folder(settings) / f"{name}.progress"
    return path.exists() and path.stat().st_size > 0


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """What to read: `kind` goes into each record's annotation, `where` is an SQL condition, `rate` is rows/s."""

    name: str
    kind: str
    tables: Sequence[Table]
    where: str = ""
    rate: float | None = None
    workers: int = DEFAULT_WORKERS


def run_snapshot(
    endpoints: Endpoints,
    request: SnapshotRequest,
    stopping: Callable[[], bool],
    on_progress: ProgressCallback,
    exported: ExportedSnapshot | None = None,
) -> tuple[SnapshotProgress, bool]:
    """Publish the rows; resume where an earlier run of this name ended. True when all of them are on the stream.

    With `exported`, rows are read from the slot's own snapshot; if that is lost, the remaining ones are read as a
    backfill. While PostgreSQL is down, wait for it. Raises StreamError, UsageError, and SourceError when not even the
    first rows can be read.
    """
    checkpoint = endpoints.checkpoint(request.name)
    done = False
    try:
        progress = _plan(endpoints, request, checkpoint)
        delay = 0.5
        while True:
            try:
                done = _Attempt(endpoints, request, checkpoint, progress, exported).run(stopping, on_progress)
                return progress, done
            except SourceError as error:
                if stopping() or progress.rows == progress.before:
                    raise
                logger.warning("%s; next try in %.1f s", error.message, delay)
            exported = None
            sleep_until_stopped(delay, stopping)
            delay = min(2 * delay, _MAX_RETRY_SECONDS)
    finally:
        checkpoint.close(forget=done)


def _plan(endpoints: Endpoints, request: SnapshotRequest, checkpoint: SnapshotCheckpoint) -> SnapshotProgress:
    """Make a plan, or resume the checkpoint's one if it still fits the tables."""
    with closing(Source(endpoints.dsn())) as source:
        found = {relation.table: relation for relation in relations(source, set(request.tables).__contains__)}
        sizes = {table: estimate_rows(source, relation, request.where) for table, relation in found.items()}
        plan = checkpoint.plan
        if plan is None or plan.epoch != endpoints.origin.epoch or not all(_fits(part, found) for part in plan.parts):
            parts = [
                TablePlan(table, split_table(source, relation, ROWS_PER_RANGE)) for table, relation in found.items()
            ]
            checkpoint.begin(Plan(endpoints.origin.epoch, parts))
        else:
            rows = f"{checkpoint.rows:,}"
            logger.info("resuming: %d ranges with %s rows are already published", len(checkpoint.done), rows)
    assert checkpoint.plan is not None
    total = max(sum(sizes.get(part.table, 0) for part in checkpoint.plan.parts), checkpoint.rows)
    return SnapshotProgress(checkpoint.rows, total, checkpoint.rows, len(checkpoint.plan.parts))


def _fits(part: TablePlan, found: dict[Table, SizedRelation]) -> bool:
    """True when the table still has the key that its ranges were made for; a dropped table has no rows to read."""
    bounds = [key_range.up_to for key_range in part.ranges if key_range.up_to is not None]
    return part.table not in found or not bounds or len(bounds[0]) == max(1, len(found[part.table].key))


class _Attempt:
    """One attempt: runs the worker processes and writes the checkpoint."""

    def __init__(
        self,
        endpoints: Endpoints,
        request: SnapshotRequest,
        checkpoint: SnapshotCheckpoint,
        progress: SnapshotProgress,
        exported: ExportedSnapshot | None,
    ) -> None:
        self._endpoints, self._request, self._checkpoint, self._progress = endpoints, request, checkpoint, progress
        self._exported, self._reported_at, self._before = exported, 0.0, checkpoint.rows
        self._accepted: dict[int, int] = {}
        self._failed: WorkerFailed | None = None

    def run(self, stopping: Callable[[], bool], on_progress: ProgressCallback) -> bool:
        tasks = self._remaining_tasks()
        left = len(tasks)
        with WorkerPool(self._endpoints.settings, self._jobs(tasks)) as workers:
            while workers.busy:
                if self._failed is not None or stopping():
                    workers.stop()
                for worker, report in workers.reports(0.1):
                    left -= isinstance(report, RangeFinished)
                    self._on_report(worker, report)
                self._report_progress(on_progress)
        self._report_progress(on_progress, at_once=True)
        if self._failed is not None:
            raise self._failed.to_error()
        return left == 0

    def _remaining_tasks(self) -> list[RangeTask]:
        """Return the unfinished ranges, alternating between tables; a dropped table has none."""
        plan, done = self._checkpoint.plan, self._checkpoint.done
        assert plan is not None
        with closing(Source(self._endpoints.dsn())) as source:
            found = {relation.table for relation in relations(source, {part.table for part in plan.parts}.__contains__)}
        return [
            RangeTask(index, number, part.table, part.ranges[number])
            for number in range(max((len(part.ranges) for part in plan.parts), default=0))
            for index, part in enumerate(plan.parts)
            if part.table in found and number < len(part.ranges) and (index, number) not in done
        ]

    def _jobs(self, tasks: Sequence[RangeTask]) -> list[Job]:
        """Give each worker its share of every table. No two workers' rows share a WAL position."""
        request, shares, assigned = self._request, defaultdict[int, list[RangeTask]](list), Counter[int]()
        for task in tasks:
            shares[(task.part + assigned[task.part]) % request.workers].append(task)
            assigned[task.part] += 1
        rate = request.rate and request.rate / max(1, len(shares))
        common = request.name, request.kind, self._endpoints.origin
        log_level = logging.getLogger().getEffectiveLevel()
        return [
            Job(*common, share, request.where, rate, _base(self._exported, worker), log_level)
            for worker, share in enumerate(shares.values())
        ]

    def _on_report(self, worker: int, report: Report) -> None:
        match report:
            case RowsAccepted(rows):
                self._accepted[worker] = rows
                self._progress.rows = self._before + sum(self._accepted.values())
            case RangeFinished(part, number, rows):
                self._checkpoint.finished(part, number, rows)
            case LogLine(name, level, text):
                logging.getLogger(name).log(level, "%s", text)
            case WorkerFailed():
                self._failed = self._failed or report
            case WorkerEnded():
                pass

    def _report_progress(self, on_progress: ProgressCallback, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._reported_at > _PROGRESS_SECONDS:
            self._reported_at = time.monotonic()
            on_progress(self._progress)


def _base(exported: ExportedSnapshot | None, worker: int) -> BaseSnapshot | None:
    """Place a worker's rows just before the slot's start, one byte per worker: inside a WAL record, never a commit."""
    return None if exported is None else BaseSnapshot(exported.snapshot, exported.consistent_point - 1 - worker, _now())


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime())
