"""``python -m producer.snapshot.worker``: reads ranges of tables by COPY and puts their rows on the stream.

The job is one line on stdin, and the end of stdin tells to stop: the fill was told to, or is gone. Signals are the
fill's affair. Reports go to stdout (`producer.snapshot.protocol`). One thread reads, builds the records and hands them
over to the requests in flight, no more than the publisher may hold: that bounds the memory.
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
from producer.ack_tracker import Ticket
from producer.kinesis.batching.folded import LooseLanes
from producer.kinesis.claim_check import open_oversize
from producer.kinesis.publisher import Publisher, Target, open_target
from producer.kinesis.stream import Stream, kinesis_client
from producer.masking.key import open_masks
from producer.postgres.catalog import shapes
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.snapshot.chunks import condition
from producer.snapshot.copy_encoder import Image, Under, stamper_of
from producer.snapshot.protocol import Accepted, Failed, Finished, Job, Said, Todo
from producer.snapshot.watermark import Watermark, Watermarks, snapshot

_DRAIN_SECONDS, _TELL_SECONDS = 8.0, 0.2


class Ended(Exception):
    """Told to stop in the midst of a range."""


Tell = Callable[[Accepted | Finished], None]


@dataclass(slots=True)
class Pace:
    """So many rows a second; without a rate, as fast as it goes."""

    rate: float | None
    _due: float = field(default_factory=time.monotonic)

    def pause(self, rows: int) -> float:
        """Seconds to wait after these rows."""
        if self.rate is None:
            return 0.0
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + rows / self.rate
        return max(0.0, self._due - now)


class Reading:
    """One process's part of a fill."""

    def __init__(self, job: Job, settings: Settings, target: Target, stopping: threading.Event, tell: Tell) -> None:
        """`tell` is called as rows are accepted and ranges finished, `stopping` is looked at between batches."""
        self._job, self._stopping, self._tell = job, stopping, tell
        self._lanes = target.lanes(LooseLanes)
        self._publisher = Publisher(target, self._lanes)
        self._dsn, self._masks = SourceDsn(settings), open_masks(settings)
        self._pace, self._marks, self._told = Pace(job.rate), Watermarks(), 0.0
        self._base = None if job.base is None else Watermark(Lsn(job.base.lsn), job.base.time)
        self._open: list[tuple[Todo, Ticket, int]] = []

    def run(self) -> None:
        """Read all of the job's ranges, or until told to stop. Raises SourceError, StreamError."""
        try:
            with closing(Source(self._dsn())) as source:
                source.query("SET standard_conforming_strings = on")
                if self._job.base is not None:
                    source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    source.query(f"SET TRANSACTION SNAPSHOT '{self._job.base.snapshot}'")
                self._read_all(source)
        except Ended:
            pass
        self._drain()

    def close(self) -> None:
        """Wait for the requests in flight."""
        self._publisher.close()

    def _read_all(self, source: Source) -> None:
        wanted = {todo.table for todo in self._job.todo}
        there = {shape.table: shape for shape in shapes(source, wanted.__contains__)}
        images = {table: Image(shape, self._job.origin.source, self._masks) for table, shape in there.items()}
        for todo in self._job.todo:
            if todo.table not in images:
                raise SourceError(f"the table {todo.table} is gone")
            self._read(source, todo, images[todo.table])

    def _read(self, source: Source, todo: Todo, image: Image) -> None:
        job, ticket, rows = self._job, Ticket(), 0
        mark = self._base or snapshot(source, self._marks, self._text(todo), self._stopping.is_set)
        if mark is None:
            raise Ended
        under = Under(stamper_of(job.origin, job.kind), str(mark.lsn), mark.time)

        def take(lines: Sequence[bytes]) -> None:
            nonlocal rows
            for record in self._lanes.add_rows(image.rows(lines, under, mark.take(len(lines))), ticket):
                self._publisher.submit(record, ticket)
            rows += len(lines)
            self._publisher.pump(eager=False)
            self._settle()
            self._hold(self._pace.pause(len(lines)))

        where = f" AND ({job.where}\n)" if job.where else ""
        ranged = condition(image.shape, todo.range)
        source.copy(f"SELECT {image.select} FROM ONLY {todo.table} WHERE {ranged}{where}", take)  # noqa: S608
        if self._base is None:
            source.query("COMMIT")
        self._open.append((todo, ticket, rows))

    def _text(self, todo: Todo) -> str:
        return json.dumps({"fill": self._job.name, "table": str(todo.table), "range": todo.number})

    def _hold(self, seconds: float) -> None:
        """Wait so long, and until there is room, while the requests go on. Raises Ended."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set() and (time.monotonic() < until or self._publisher.full):
            self._wait(min(0.2, max(0.02, until - time.monotonic())))
        if self._stopping.is_set():
            raise Ended

    def _wait(self, seconds: float) -> None:
        self._publisher.pump()
        self._publisher.wait(min(seconds, self._publisher.pause or seconds))
        self._settle()

    def _drain(self) -> None:
        """See what was read onto the stream; once told to stop, for no longer than a while."""
        deadline = math.inf
        while self._publisher.pending and time.monotonic() < deadline:
            if self._stopping.is_set():
                deadline = min(deadline, time.monotonic() + _DRAIN_SECONDS)
            self._wait(0.1)
        self._settle(at_once=True)

    def _settle(self, *, at_once: bool = False) -> None:
        """Tell what the stream has."""
        for todo, ticket, rows in self._open:
            if ticket.outstanding == 0:
                self._tell(Finished(todo.part, todo.number, rows))
        self._open = [one for one in self._open if one[1].outstanding]
        if at_once or time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            self._tell(Accepted(self._publisher.figures.accepted))


class _Reports(logging.Handler):
    """Writes reports and log lines to stdout, from any thread; should nobody hear them, it is time to stop."""

    def __init__(self, stopping: threading.Event) -> None:
        super().__init__()
        self._stopping, self._alone = stopping, threading.Lock()

    def tell(self, report: Accepted | Finished | Said | Failed) -> None:
        with self._alone:
            try:
                sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
                sys.stdout.buffer.flush()
            except OSError:
                self._stopping.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(Said(record.name, record.levelno, record.getMessage()))


def main() -> int:
    """Do the job that stdin has; 0 when its end, or its error, was reported."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # told to stop at once
        return 0
    job = msgspec.json.decode(line, type=Job)
    stopping = threading.Event()
    reports = _Reports(stopping)
    logging.basicConfig(level=job.level, handlers=[reports], force=True)
    logs.hush(verbose=job.level <= logging.DEBUG)
    threading.Thread(target=_watch, args=(stopping,), daemon=True).start()
    try:
        _work(job, resolve({}, os.environ)[0], stopping, reports.tell)
    except CdcError as error:
        reports.tell(Failed(type(error).__name__, error.message, error.hint))
    except Exception as error:  # a bug: to try again would not help
        reports.tell(Failed("CdcError", f"reading failed: {error!r}"))
    return 0


def _work(job: Job, settings: Settings, stopping: threading.Event, tell: Tell) -> None:
    keep = open_oversize(settings.oversize, settings.source)
    with (
        closing(open_target(Stream(kinesis_client(), settings.stream), keep)) as target,
        closing(Reading(job, settings, target, stopping, tell)) as reading,
    ):
        reading.run()


def _watch(stopping: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: at the interpreter's end its lock must be free
        pass
    stopping.set()


if __name__ == "__main__":
    sys.exit(main())
