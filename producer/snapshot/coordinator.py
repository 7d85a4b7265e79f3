"""A fill: rows that are in the database already, put on the stream beside the changes; snapshot, backfill and repair.

Each row has a position below all changes that its reading did not see (`producer.snapshot.watermark`), so it loses
against every one of them in every satellite, whichever comes first. A range counts as done, durably, once the stream
has accepted its every row. Worker processes read (`producer.snapshot.worker_pool`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cdckit.change import Table
from cdckit.errors import SourceError
from cdckit.runtime.settings import Settings
from producer.kinesis.publisher import Target
from producer.masking.masker import Masks
from producer.postgres.catalog import Shape, shapes
from producer.postgres.connection import Source
from producer.postgres.replication_slot import Exported
from producer.records import Origin
from producer.snapshot.checkpoint import Part, Plan, Progress
from producer.snapshot.chunks import cut, expected
from producer.snapshot.protocol import Accepted, Base, Ended, Failed, Finished, Job, Report, Said, Todo
from producer.snapshot.worker_pool import Crew

logger = logging.getLogger(__name__)

ROWS_A_RANGE = 10_000
WORKERS = 2
_RETRY_MOST, _TELL_SECONDS = 15.0, 0.5


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


def begun(settings: Settings, name: str) -> bool:
    """Whether an earlier run of this fill has a plan, which the next one continues."""
    path = folder(settings) / f"{name}.progress"
    return path.exists() and path.stat().st_size > 0


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
    """One attempt: processes that read and publish, and this one, which keeps account."""

    def __init__(
        self, where: Where, wanted: Wanted, progress: Progress, figures: Figures, exported: Exported | None
    ) -> None:
        self._where, self._wanted, self._progress, self._figures = where, wanted, progress, figures
        self._exported, self._told, self._before = exported, 0.0, progress.rows
        self._accepted: dict[int, int] = {}
        self._failed: Failed | None = None

    def run(self, stopping: Callable[[], bool], tell: Tell) -> bool:
        todo = self._todo()
        left = len(todo)
        with Crew(self._where.settings, self._jobs(todo)) as crew:
            while crew.busy:
                if self._failed is not None or stopping():
                    crew.stop()
                for at, report in crew.reports(0.1):
                    left -= isinstance(report, Finished)
                    self._take(at, report)
                self._tell(tell)
        self._tell(tell, at_once=True)
        if self._failed is not None:
            raise self._failed.error()
        return left == 0

    def _todo(self) -> list[Todo]:
        """The ranges that are still to be read, those of all tables taking turns; a table that is gone has none."""
        plan, done = self._progress.plan, self._progress.done
        assert plan is not None
        with closing(Source(self._where.dsn())) as source:
            there = {shape.table for shape in shapes(source, {part.table for part in plan.parts}.__contains__)}
        return [
            Todo(at, number, part.table, part.ranges[number])
            for number in range(max((len(part.ranges) for part in plan.parts), default=0))
            for at, part in enumerate(plan.parts)
            if part.table in there and number < len(part.ranges) and (at, number) not in done
        ]

    def _jobs(self, todo: Sequence[Todo]) -> list[Job]:
        """Each process has its share of every table; no two have rows of one place in the log."""
        wanted, shares, taken = self._wanted, defaultdict[int, list[Todo]](list), Counter[int]()
        for one in todo:
            shares[(one.part + taken[one.part]) % wanted.workers].append(one)
            taken[one.part] += 1
        rate = wanted.rate and wanted.rate / max(1, len(shares))
        told = wanted.name, wanted.kind, self._where.origin
        level = logging.getLogger().getEffectiveLevel()
        return [
            Job(*told, share, wanted.where, rate, _base(self._exported, at), level)
            for at, share in enumerate(shares.values())
        ]

    def _take(self, at: int, report: Report) -> None:
        match report:
            case Accepted(rows):
                self._accepted[at] = rows
                self._figures.rows = self._before + sum(self._accepted.values())
            case Finished(part, number, rows):
                self._progress.finished(part, number, rows)
            case Said(name, level, text):
                logging.getLogger(name).log(level, "%s", text)
            case Failed():
                self._failed = self._failed or report
            case Ended():
                pass

    def _tell(self, tell: Tell, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            tell(self._figures)


def _base(exported: Exported | None, at: int) -> Base | None:
    """Just before the slot's beginning, a byte for each process: inside a record that is no commit's."""
    return None if exported is None else Base(exported.snapshot, exported.point - 1 - at, _now())


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime())


def _sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not stopping() and time.monotonic() < deadline:
        time.sleep(0.1)
