"""Replays a range of the stream into a shadow of the satellite; a journal beside it records the progress."""

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
from consumers.storage.files import write_atomically
from consumers.stream.rate_limit import ReadRateLimiter
from consumers.stream.reader import ShardPage, StreamReader
from consumers.stream.start import StartPosition
from consumers.worker.factory import WorkerFactory
from consumers.worker.shard import Cadence, Checkpoint, ShardWorker

JOURNAL_FILE = "replay.json"
_SAVE_SECONDS = 5.0
_PROGRESS_SECONDS = 2.0


class Journal(msgspec.Struct, rename={"start": "begin", "checkpoints": "marks"}):
    """The request of a replay and its progress: everything up to `checkpoints` is durable in the shadow.

    The range and the filters are stored as the user typed them (a time as ISO 8601).
    """

    consumer: str
    stream: str
    since: str
    until: str | None
    tables: list[str]
    where: str | None
    start: StartPosition
    whole: bool
    """Whether the range is everything up to the present, without filters."""
    checkpoints: dict[str, str] = msgspec.field(default_factory=dict)
    read: int = 0
    applied: int = 0
    superseded: int = 0
    dead_lettered: int = 0
    newest: str = ""
    complete: bool = False


def write_journal(folder: Path, journal: Journal) -> None:
    """Writes the journal; durable when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / JOURNAL_FILE, msgspec.json.encode(journal))


def read_journal(folder: Path) -> Journal:
    """Reads the journal. Raises UsageError when the folder is not a replay's, or the journal is damaged."""
    try:
        return msgspec.json.decode((folder / JOURNAL_FILE).read_bytes(), type=Journal)
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is not a replay's folder", "see cdcctl replay ls") from error
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{folder / JOURNAL_FILE} is damaged: {error}", "start a new replay, into another folder"
        ) from error


ProgressCallback = Callable[[ShardPage, int], None]
"""Called after each page, with the number of selected changes in it."""


@dataclass(slots=True)
class ShadowReplay:
    """A new satellite in `folder`, beside the live one; it has no leases and claims no store."""

    settings: Settings
    factory: SinkFactory
    folder: Path
    journal: Journal
    _workers: dict[str, ShardWorker] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    def replay(
        self,
        selection: Selection,
        stop_requested: Callable[[], bool],
        progress: ProgressCallback,
        limiter: ReadRateLimiter,
    ) -> Journal:
        """Applies the selected changes, up to the range's end or the present. Raises StreamError and the sink's errors.

        After an interruption or a kill, a new `ShadowReplay` with the same journal continues where it was last durable.
        """
        before = msgspec.structs.replace(self.journal)
        reader = StreamReader(
            self.journal.stream, self.journal.start, True, stop_requested,
            checkpoints=dict(self.journal.checkpoints), limiter=limiter,
        )  # fmt: skip
        read_to: dict[str, str] = {}
        for page, items in Feed(reader, selection).batches():
            if items:
                records = [item.record for item in items]
                self._worker(page.shard).process(records, page.behind_ms, _no_checkpoint)
            if page.checkpoint is not None:
                read_to[page.shard] = page.checkpoint
            progress(page, len(items))
            if time.monotonic() - self._saved >= _SAVE_SECONDS:
                self._save(before, read_to)
        self.journal.complete = not stop_requested()
        self._save(before, read_to)
        for worker in self._workers.values():
            worker.close()
        return self.journal

    def _save(self, before: Journal, read_to: dict[str, str]) -> None:
        """Flushes first: a checkpoint means that everything before it is durable."""
        for worker in self._workers.values():
            worker.finish(_no_checkpoint)
        reports = [worker.reporter.report for worker in self._workers.values()]
        journal = self.journal
        journal.checkpoints |= read_to
        journal.read = before.read + sum(report.read for report in reports)
        journal.applied = before.applied + sum(report.applied for report in reports)
        journal.superseded = before.superseded + sum(report.superseded for report in reports)
        journal.dead_lettered = before.dead_lettered + sum(report.dead_lettered for report in reports)
        journal.newest = max([before.newest, *(report.commit_time for report in reports)])
        write_journal(self.folder, journal)
        self._saved = time.monotonic()

    def _worker(self, shard: str) -> ShardWorker:
        if shard not in self._workers:
            factory = WorkerFactory(self.settings, self.journal.consumer, self.factory)
            self._workers[shard] = factory.open_shadow_worker(shard, self.folder, Cadence(_PROGRESS_SECONDS))
        return self._workers[shard]


def _no_checkpoint(mark: Checkpoint) -> None:
    """Does nothing: a replay into a shadow has no leases."""
