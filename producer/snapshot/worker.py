"""``python -m producer.snapshot.worker``: reads ranges of tables by COPY and publishes their rows.

The job is one line on stdin; the end of stdin means stop: the coordinator requests it, or died. Signals are ignored:
the coordinator handles them. Reports go to stdout (`producer.snapshot.protocol`). One thread reads, encodes and
submits, and waits while the publisher is full: that bounds the memory.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import msgspec

from cdckit.errors import CdcError, SourceError
from cdckit.position import Lsn
from cdckit.runtime import logs
from cdckit.runtime.settings import Settings, resolve
from producer.ack_tracker import AckGroup
from producer.kinesis.batching.folded import FoldedBatcher
from producer.kinesis.claim_check import open_claim_check
from producer.kinesis.publisher import Publisher
from producer.kinesis.stream import Stream, kinesis_client
from producer.kinesis.target import Target, open_target
from producer.masking.mask_key import open_masker
from producer.postgres.catalog import quote_table, relations
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.snapshot.chunks import range_condition
from producer.snapshot.copy_encoder import CopyEncoder, SnapshotContext, metadata_writer
from producer.snapshot.protocol import Job, LogLine, RangeFinished, RangeTask, RowsAccepted, WorkerFailed
from producer.snapshot.watermark import Watermark, Watermarks, begin_snapshot

_DRAIN_SECONDS, _REPORT_SECONDS = 8.0, 0.2


class Stopped(Exception):
    """A stop was requested while a range was read."""


ReportCallback = Callable[[RowsAccepted | RangeFinished], None]


@dataclass(slots=True)
class RowRateLimiter:
    """Limits rows per second; without a rate there is no limit."""

    rate: float | None
    _due: float = field(default_factory=time.monotonic)

    def pause(self, rows: int) -> float:
        """Return the seconds to wait after these rows."""
        if self.rate is None:
            return 0.0
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + rows / self.rate
        return max(0.0, self._due - now)


class SnapshotWorker:
    """One worker's part of a snapshot."""

    def __init__(
        self, job: Job, settings: Settings, target: Target, stopping: threading.Event, report: ReportCallback
    ) -> None:
        """`report` is called when rows are accepted and ranges finished; `stopping` is checked between batches."""
        self._job, self._stopping, self._report = job, stopping, report
        self._batcher = target.batcher(FoldedBatcher)
        self._publisher = Publisher(target, self._batcher)
        self._dsn, self._masker = SourceDsn(settings), open_masker(settings)
        self._rate_limiter, self._watermarks, self._reported_at = RowRateLimiter(job.rate), Watermarks(), 0.0
        self._base_watermark = None if job.base is None else Watermark(Lsn(job.base.lsn), job.base.time)
        self._unfinished: list[tuple[RangeTask, AckGroup, int]] = []

    def run(self) -> None:
        """Read all of the job's ranges, or until a stop is requested. Raises SourceError, StreamError."""
        try:
            with closing(Source(self._dsn())) as source:
                if self._job.base is not None:
                    source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    source.query(f"SET TRANSACTION SNAPSHOT '{self._job.base.snapshot}'")
                self._read_all(source)
        except Stopped:
            pass
        self._drain()

    def close(self) -> None:
        """Wait for the requests in flight."""
        self._publisher.close()

    def _read_all(self, source: Source) -> None:
        wanted = {task.table for task in self._job.tasks}
        found = {relation.table: relation for relation in relations(source, wanted.__contains__)}
        encoders = {
            table: CopyEncoder(relation, self._job.origin.source, self._masker) for table, relation in found.items()
        }
        for task in self._job.tasks:
            if task.table not in encoders:
                raise SourceError(f"the table {task.table} does not exist any more")
            self._read(source, task, encoders[task.table])

    def _read(self, source: Source, task: RangeTask, encoder: CopyEncoder) -> None:
        job, group, rows = self._job, AckGroup(), 0
        watermark = self._base_watermark or begin_snapshot(
            source, self._watermarks, self._text(task), self._stopping.is_set
        )
        if watermark is None:
            raise Stopped
        context = SnapshotContext(metadata_writer(job.origin, job.kind), str(watermark.lsn), watermark.time)

        def on_lines(lines: Sequence[bytes]) -> None:
            nonlocal rows
            for record in self._batcher.add_rows(encoder.rows(lines, context, watermark.take(len(lines))), group):
                self._publisher.submit(record, group)
            rows += len(lines)
            self._publisher.pump(eager=False)
            self._report_finished()
            self._wait_for_room(self._rate_limiter.pause(len(lines)))

        where = f" AND ({job.where}\n)" if job.where else ""
        condition = range_condition(encoder.relation, task.range)
        source.copy(f"SELECT {encoder.select} FROM ONLY {quote_table(task.table)} WHERE {condition}{where}", on_lines)  # noqa: S608
        if self._base_watermark is None:
            source.query("COMMIT")
        self._unfinished.append((task, group, rows))

    def _text(self, task: RangeTask) -> str:
        return json.dumps({"fill": self._job.name, "table": str(task.table), "range": task.number})

    def _wait_for_room(self, seconds: float) -> None:
        """Wait for `seconds`, and until there is room, while requests are in flight. Raises Stopped."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set() and (time.monotonic() < until or self._publisher.full):
            self._wait(min(0.2, max(0.02, until - time.monotonic())))
        if self._stopping.is_set():
            raise Stopped

    def _wait(self, seconds: float) -> None:
        self._publisher.pump()
        self._publisher.wait(min(seconds, self._publisher.pause or seconds))
        self._report_finished()

    def _drain(self) -> None:
        """Wait until the stream has what was read; once a stop is requested, only for a limited time."""
        deadline = math.inf
        while self._publisher.pending and time.monotonic() < deadline:
            if self._stopping.is_set():
                deadline = min(deadline, time.monotonic() + _DRAIN_SECONDS)
            self._wait(0.1)
        self._report_finished(at_once=True)

    def _report_finished(self, *, at_once: bool = False) -> None:
        """Report what the stream has."""
        for task, group, rows in self._unfinished:
            if group.outstanding == 0:
                self._report(RangeFinished(task.part, task.number, rows))
        self._unfinished = [unfinished for unfinished in self._unfinished if unfinished[1].outstanding]
        if at_once or time.monotonic() - self._reported_at > _REPORT_SECONDS:
            self._reported_at = time.monotonic()
            self._report(RowsAccepted(self._publisher.counts.accepted))


class _Reports(logging.Handler):
    """Writes reports and log lines to stdout, from any thread; requests a stop once stdout is closed."""

    def __init__(self, stopping: threading.Event) -> None:
        super().__init__()
        self._stopping, self._write_lock = stopping, threading.Lock()

    def report(self, report: RowsAccepted | RangeFinished | LogLine | WorkerFailed) -> None:
        with self._write_lock:
            try:
                sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
                sys.stdout.buffer.flush()
            except OSError:
                self._stopping.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.report(LogLine(record.name, record.levelno, record.getMessage()))


def main() -> int:
    """Run the job from stdin; return 0 once its end, or its error, was reported."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # stopped before the job arrived
        return 0
    job = msgspec.json.decode(line, type=Job)
    stopping = threading.Event()
    reports = _Reports(stopping)
    logging.basicConfig(level=job.log_level, handlers=[reports], force=True)
    logs.quiet_libraries(verbose=job.log_level <= logging.DEBUG)
    threading.Thread(target=_watch, args=(stopping,), daemon=True).start()
    try:
        _work(job, resolve({}, os.environ)[0], stopping, reports.report)
    except CdcError as error:
        reports.report(WorkerFailed(type(error).__name__, error.message, error.hint))
    except Exception as error:  # a bug: another try would not help
        reports.report(WorkerFailed("CdcError", f"reading failed: {error!r}"))
    return 0


def _work(job: Job, settings: Settings, stopping: threading.Event, report: ReportCallback) -> None:
    claim_check = open_claim_check(settings.oversize, settings.source)
    with (
        closing(open_target(Stream(kinesis_client(), settings.stream), claim_check)) as target,
        closing(SnapshotWorker(job, settings, target, stopping, report)) as worker,
    ):
        worker.run()


def _watch(stopping: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: at the interpreter's exit its lock must be free
        pass
    stopping.set()


if __name__ == "__main__":
    sys.exit(main())
