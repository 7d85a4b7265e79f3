"""A fill: rows that are in the database already, put on the stream beside the changes; snapshot, backfill and repair.

Nobody waits for anybody: each row has a position below all changes that its reading did not see (`producer.watermark`),
so it loses against every one of them in every satellite, whichever comes first. Memory is bounded by what the publisher
may hold and a few batches a thread. A range counts as done, durably, once the stream has accepted its every row.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

from cdckit.change import Table
from cdckit.errors import CdcError, SourceError
from cdckit.position import Lsn
from cdckit.settings import Settings, yes
from producer.aggregate import AggregateLanes
from producer.image import Image
from producer.kinesis import Publisher, Target
from producer.masking import Masks
from producer.plain import PlainLanes
from producer.progress import Part, Plan, Progress
from producer.ranges import cut, expected
from producer.reading import Batch, Pace, Reading, Task, plan_of
from producer.relay import MOST_PENDING, MOST_PENDING_BYTES
from producer.routing import Origin
from producer.shapes import Shape, shapes
from producer.slot import Exported
from producer.source import Source
from producer.watermark import Watermark

logger = logging.getLogger(__name__)

ROWS_A_RANGE = 10_000
WORKERS = 2
_RETRY_MOST, _DRAIN_SECONDS, _TELL_SECONDS = 15.0, 8.0, 0.5


@dataclass(frozen=True, slots=True)
class Where:
    """Where the rows come from and where they go."""

    settings: Settings
    dsn: Callable[[], str]
    origin: Origin
    masks: Masks
    target: Target

    def progress(self, name: str) -> Progress:
        """The file in which a fill of this name keeps what it has done."""
        return Progress(folder(self.settings) / f"{name}.progress")


def folder(settings: Settings) -> Path:
    """Where fills keep what they have done."""
    return settings.folder / "fills"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read: `kind` is told in each record's annotation, `where` is an SQL condition, `rate` rows a second."""

    name: str
    kind: str
    tables: Sequence[Table]
    where: str = ""
    rate: float | None = None
    workers: int = WORKERS


@dataclass(slots=True)
class Figures:
    """How far a fill is: rows that the stream has, of about `total`; `before` of them came in an earlier run."""

    rows: int = 0
    total: int = 0
    before: int = 0
    tables: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long this run takes."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Rows a second in this run."""
        return (self.rows - self.before) / max(0.001, self.seconds)

    @property
    def eta(self) -> float | None:
        """Seconds that are left, as far as one can tell."""
        return max(0, self.total - self.rows) / self.rate if self.rows > self.before else None


Tell = Callable[[Figures], None]


def fill(
    where: Where, wanted: Wanted, stopping: Callable[[], bool], tell: Tell, exported: Exported | None = None
) -> tuple[Figures, bool]:
    """Publish the rows, going on where an earlier run of this name ended; True when all of them are on the stream.

    `exported` reads from the slot's own snapshot; should that be lost, what is left is read as a backfill. While
    PostgreSQL is away it is waited for. Raises StreamError, UsageError, and SourceError when it cannot even begin.
    """
    progress = where.progress(wanted.name)
    done = False
    try:
        figures = _begin(where, wanted, progress)
        delay = 0.5
        while True:
            try:
                done = _Run(where, wanted, progress, figures, exported).run(stopping, tell)
                return figures, done
            except SourceError as error:
                if stopping() or figures.rows == figures.before:
                    raise
                logger.warning("%s; again in %.1f s", error.message, delay)
            exported = None
            _sleep(delay, stopping)
            delay = min(2 * delay, _RETRY_MOST)
    finally:
        progress.close(forget=done)


def _begin(where: Where, wanted: Wanted, progress: Progress) -> Figures:
    """Make the plan, or take up the one that there is."""
    with closing(Source(where.dsn())) as source:
        there = {shape.table: shape for shape in shapes(source, set(wanted.tables).__contains__)}
        sizes = {table: expected(source, shape, wanted.where) for table, shape in there.items()}
        plan = progress.plan
        if plan is None or plan.epoch != where.origin.epoch or not all(_fits(part, there) for part in plan.parts):
            parts = [Part(table, cut(source, shape, ROWS_A_RANGE)) for table, shape in there.items()]
            progress.begin(Plan(where.origin.epoch, parts))
        else:
            logger.info("going on: %d ranges with %s rows are done already", len(progress.done), f"{progress.rows:,}")
    assert progress.plan is not None
    total = max(sum(sizes.get(part.table, 0) for part in progress.plan.parts), progress.rows)
    return Figures(progress.rows, total, progress.rows, len(progress.plan.parts))


def _fits(part: Part, there: dict[Table, Shape]) -> bool:
    """Whether the table still has the key whose ranges these are; one that was dropped has no rows to read."""
    bounds = [one.upto for one in part.ranges if one.upto is not None]
    return part.table not in there or not bounds or len(bounds[0]) == max(1, len(there[part.table].key))


class _Run:
    """One attempt: threads that read, and this one, which publishes."""

    def __init__(
        self, where: Where, wanted: Wanted, progress: Progress, figures: Figures, exported: Exported | None
    ) -> None:
        self._where, self._wanted, self._progress, self._figures = where, wanted, progress, figures
        self._failed = threading.Event()
        self._batches: Queue[Batch | CdcError] = Queue(4 * wanted.workers)
        self._open: list[Task] = []
        self._exported, self._told, self._before = exported, 0.0, progress.rows

    def run(self, stopping: Callable[[], bool], tell: Tell) -> bool:
        tasks = self._tasks()
        left = len(tasks)
        lanes = AggregateLanes if yes(self._where.settings.aggregate) else PlainLanes
        publisher = Publisher(self._where.target, lanes)
        threads = self._start(tasks, lambda: stopping() or self._failed.is_set())
        try:
            while left and not stopping():
                self._step(publisher)
                left -= self._settle()
                self._count(publisher)
                self._tell(tell)
            self._drain(publisher)
            left -= self._settle()
            self._count(publisher)
        finally:
            self._failed.set()
            for thread in threads:
                thread.join()
            publisher.close()
        self._tell(tell, at_once=True)
        return left == 0

    def _tasks(self) -> list[Task]:
        plan = self._progress.plan
        assert plan is not None
        with closing(Source(self._where.dsn())) as source:
            there = {shape.table: shape for shape in shapes(source, {part.table for part in plan.parts}.__contains__)}
        images = [self._image(there.get(part.table)) for part in plan.parts]
        done = self._progress.done
        return plan_of(plan.parts, images, lambda part, number: (part, number) in done)

    def _image(self, shape: Shape | None) -> Image | None:
        return None if shape is None else Image(shape, self._where.origin.source, self._where.masks)

    def _start(self, tasks: Sequence[Task], ending: Callable[[], bool]) -> list[threading.Thread]:
        wanted, waiting = self._wanted, Queue[Task]()
        for task in tasks:
            waiting.put(task)
        reading = Reading(
            wanted.name, wanted.kind, self._where.dsn, self._where.origin, wanted.where, Pace(wanted.rate), waiting,
            self._batches, ending, self._exported, _base(self._exported),
        )  # fmt: skip
        threads = [threading.Thread(target=reading.run, name=f"fill-{number}") for number in range(wanted.workers)]
        for thread in threads:
            thread.start()
        return threads

    def _step(self, publisher: Publisher) -> None:
        """Take in what was read, as much as there is room for, and keep the requests going."""
        taken = False
        while publisher.pending < MOST_PENDING and publisher.pending_bytes < MOST_PENDING_BYTES:
            try:
                self._take(publisher, self._batches.get(timeout=0 if taken or publisher.pending else 0.1))
                taken = True
            except Empty:
                break
            publisher.pump(eager=False)
        publisher.pump()
        if publisher.pending and not taken:
            publisher.wait(min(0.2, publisher.pause or 0.02))

    def _take(self, publisher: Publisher, batch: Batch | CdcError) -> None:
        if isinstance(batch, CdcError):
            raise batch
        task, rows = batch
        if rows is None:
            self._open.append(task)
            return
        task.rows += len(rows)
        publisher.submit_rows(rows, task.ticket)

    def _settle(self) -> int:
        ended = [task for task in self._open if task.ticket.outstanding == 0]
        for task in ended:
            self._open.remove(task)
            self._progress.finished(task.part, task.number, task.rows)
        return len(ended)

    def _count(self, publisher: Publisher) -> None:
        self._figures.rows = self._before + publisher.figures.accepted

    def _drain(self, publisher: Publisher) -> None:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while publisher.pending and time.monotonic() < deadline:
            publisher.pump()
            publisher.wait(min(0.1, publisher.pause or 0.1))

    def _tell(self, tell: Tell, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            tell(self._figures)


def _base(exported: Exported | None) -> Watermark | None:
    """Just before the slot's beginning: inside a record that is no commit's."""
    return None if exported is None else Watermark(Lsn(exported.point - 1), _now())


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime())


def _sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not stopping() and time.monotonic() < deadline:
        time.sleep(0.1)
