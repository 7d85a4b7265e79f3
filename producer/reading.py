"""The threads that read a fill's ranges by COPY and hand their records over; each has a connection of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from queue import Empty, Full, Queue

from cdckit.envelope import VERSION, Stamp, Stamper
from cdckit.errors import CdcError
from producer.image import Image, Under
from producer.ledger import Ticket
from producer.progress import Part
from producer.ranges import Range, condition
from producer.routing import Origin, Rows
from producer.slot import Exported
from producer.source import Source
from producer.watermark import Watermark, Watermarks, snapshot

_LINES, _BYTES = 500, 1024 * 1024


class Ended(Exception):
    """Told to stop in the midst of a range."""


@dataclass(slots=True, eq=False)
class Task:
    """One range to be read. `ticket` counts its records until the stream has them."""

    part: int
    number: int
    image: Image
    range: Range
    ticket: Ticket
    rows: int = 0


Batch = tuple[Task, Rows | None]
"""Some rows of a range; None: it was read to its end."""


@dataclass(slots=True)
class Pace:
    """So many rows a second, of all threads together; without a rate, as fast as it goes."""

    rate: float | None
    _due: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, rows: int, stopping: Callable[[], bool]) -> None:
        """Wait until these rows may go."""
        if self.rate is None:
            return
        with self._lock:
            due = max(self._due, time.monotonic() - 1.0)
            self._due = due + rows / self.rate
        while (pause := due - time.monotonic()) > 0 and not stopping():
            time.sleep(min(pause, 0.1))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the threads share. `exported` is the slot's own snapshot; without it each range has one, and a watermark."""

    name: str
    kind: str
    dsn: Callable[[], str]
    origin: Origin
    where: str
    pace: Pace
    tasks: Queue[Task]
    batches: Queue[Batch | CdcError]
    stopping: Callable[[], bool]
    exported: Exported | None = None
    base: Watermark | None = None
    marks: Watermarks = field(default_factory=Watermarks)

    def run(self) -> None:
        """Read ranges until there are no more; an error is handed over in place of records."""
        try:
            with closing(Source(self.dsn())) as source:
                source.query("SET standard_conforming_strings = on")
                if self.exported is not None:
                    source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    source.query(f"SET TRANSACTION SNAPSHOT '{self.exported.snapshot}'")
                self._read_all(source)
        except Ended:
            return
        except CdcError as error:
            self._hand_over(error)
        except Exception as error:  # a bug: the fill must not wait for a thread that is gone
            self._hand_over(CdcError(f"reading failed: {error!r}"))

    def _read_all(self, source: Source) -> None:
        while not self.stopping():
            try:
                task = self.tasks.get_nowait()
            except Empty:
                return
            self._read(source, task)

    def _read(self, source: Source, task: Task) -> None:
        mark = self.base or snapshot(source, self.marks, self._told(task), self.stopping)
        if mark is None:
            raise Ended
        shape, lines = task.image.shape, _Lines(self, task, mark)
        where = f" AND ({self.where}\n)" if self.where else ""
        source.copy(
            f"SELECT {task.image.select} FROM ONLY {shape.table} WHERE {condition(shape, task.range)}{where}",  # noqa: S608
            lines.write,
        )
        lines.flush()
        if self.base is None:
            source.query("COMMIT")
        self._hand_over((task, None))

    def _told(self, task: Task) -> str:
        return json.dumps({"fill": self.name, "table": str(task.image.shape.table), "range": task.number})

    def hand_over(self, task: Task, rows: Rows) -> None:
        """Wait for room. Raises Ended."""
        self.pace.wait(len(rows), self.stopping)
        self._hand_over((task, rows))

    def _hand_over(self, batch: Batch | CdcError) -> None:
        while True:
            if self.stopping():
                raise Ended
            try:
                return self.batches.put(batch, timeout=0.2)
            except Full:
                continue


def stamper_of(origin: Origin, kind: str) -> Stamper:
    """The envelope of rows that were read: their annotation tells that nobody inserted them then."""
    return Stamper(
        Stamp(
            VERSION, origin.epoch, "", 0, origin.source, origin.system, origin.timeline, origin.slot, {"read": kind}
        )
    )  # fmt: skip


class _Lines:
    """Gathers COPY's lines and turns them into records, some hundred at a time."""

    def __init__(self, reading: Reading, task: Task, mark: Watermark) -> None:
        self._reading, self._task, self._mark = reading, task, mark
        self._under = Under(stamper_of(reading.origin, reading.kind), str(mark.lsn), mark.time)
        self._lines: list[bytes] = []
        self._size = 0

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if len(self._lines) >= _LINES or self._size >= _BYTES:
            self.flush()

    def flush(self) -> None:
        lines, self._lines, self._size = self._lines, [], 0
        if lines:
            rows = self._task.image.rows(lines, self._under, self._mark.take(len(lines)))
            self._reading.hand_over(self._task, rows)


def plan_of(parts: Sequence[Part], images: Sequence[Image | None], done: Callable[[int, int], bool]) -> list[Task]:
    """The ranges that are still to be read, those of all tables taking turns."""
    tasks = []
    longest = max((len(part.ranges) for part in parts), default=0)
    for number in range(longest):
        for at, (part, image) in enumerate(zip(parts, images, strict=True)):
            if image is not None and number < len(part.ranges) and not done(at, number):
                tasks.append(Task(at, number, image, part.ranges[number], Ticket()))
    return tasks
