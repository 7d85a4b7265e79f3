"""Replays a range of the stream into a shadow of the satellite; what it has done so far is kept beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from cdckit.sink import SinkFactory
from consumers.filters.feed import Feed
from consumers.filters.selection import Selection
from consumers.storage.files import write_whole
from consumers.stream.rate_limit import Pace
from consumers.stream.reader import Page, StreamReader
from consumers.stream.start import StartPosition
from consumers.worker.factory import Opening
from consumers.worker.shard import Cadence, Mark, ShardWorker

FILE = "replay.json"
_SAVE_SECONDS = 5.0
_PROGRESS_SECONDS = 2.0


class Journal(msgspec.Struct):
    """What a replay was asked for, and how far it has come: what it read up to `marks` is durable in the shadow.

    The range and filters stand as they were typed (a time as ISO 8601).
    """

    consumer: str
    stream: str
    since: str
    until: str | None
    tables: list[str]
    where: str | None
    begin: StartPosition
    whole: bool
    """Whether it was from the beginning to the present, and without filters."""
    marks: dict[str, str] = msgspec.field(default_factory=dict)
    read: int = 0
    applied: int = 0
    superseded: int = 0
    dead_lettered: int = 0
    newest: str = ""
    complete: bool = False


def write_journal(folder: Path, journal: Journal) -> None:
    """Durable when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE, msgspec.json.encode(journal))


def read_journal(folder: Path) -> Journal:
    """Raises UsageError when the folder is not a replay's."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Journal)
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is no replay's folder", "see cdcctl replay ls") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{folder / FILE} is damaged: {error}", "replay anew, into another folder") from error


Told = Callable[[Page, int], None]
"""Called after each page, with the number of changes that were wanted."""


@dataclass(slots=True)
class Shadow:
    """A fresh satellite in `folder`, beside the live one; it has no leases and claims nothing."""

    settings: Settings
    factory: SinkFactory
    folder: Path
    journal: Journal
    _workers: dict[str, ShardWorker] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    def replay(self, selection: Selection, stopping: Callable[[], bool], told: Told, pace: Pace) -> Journal:
        """Apply what is selected, up to its end or the present. Raises StreamError, and whatever the sink raises.

        Interrupted, or killed, it goes on where it was last durable when it is made anew with its journal.
        """
        before = msgspec.structs.replace(self.journal)
        reader = StreamReader(
            self.journal.stream, self.journal.begin, True, stopping, marks=dict(self.journal.marks), pace=pace,
        )  # fmt: skip
        read_to: dict[str, str] = {}
        for page, seen in Feed(reader, selection).batches():
            if seen:
                records = [one.record for one in seen]
                self._worker(page.shard).process(records, page.behind_ms, _no_checkpoint)
            if page.mark is not None:
                read_to[page.shard] = page.mark
            told(page, len(seen))
            if time.monotonic() - self._saved >= _SAVE_SECONDS:
                self._save(before, read_to)
        self.journal.complete = not stopping()
        self._save(before, read_to)
        for worker in self._workers.values():
            worker.close()
        return self.journal

    def _save(self, before: Journal, read_to: dict[str, str]) -> None:
        """Flush first: a mark says that what is before it is durable."""
        for worker in self._workers.values():
            worker.finish(_no_checkpoint)
        reports = [worker.figures.report for worker in self._workers.values()]
        journal = self.journal
        journal.marks |= read_to
        journal.read = before.read + sum(report.read for report in reports)
        journal.applied = before.applied + sum(report.applied for report in reports)
        journal.superseded = before.superseded + sum(report.superseded for report in reports)
        journal.dead_lettered = before.dead_lettered + sum(report.dead_lettered for report in reports)
        journal.newest = max([before.newest, *(report.commit_time for report in reports)])
        write_journal(self.folder, journal)
        self._saved = time.monotonic()

    def _worker(self, shard: str) -> ShardWorker:
        if shard not in self._workers:
            opening = Opening(self.settings, self.journal.consumer, self.factory)
            self._workers[shard] = opening.shadow(shard, self.folder, Cadence(_PROGRESS_SECONDS))
        return self._workers[shard]


def _no_checkpoint(mark: Mark) -> None:
    """A replay into a shadow has no leases."""
