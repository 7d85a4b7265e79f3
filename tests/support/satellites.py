"""Fills the four satellites from a stream without the KCL, and compares them with their source."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cdcctl.verify.run import Verification
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from consumers.worker.factory import WorkerFactory
from consumers.worker.registry import find_factory
from consumers.worker.shard import Cadence, Checkpoint, ShardWorker
from producer.postgres.connection import Source
from tests.support.file_stream import FileStream

SATELLITES = ("search", "parquet", "audit", "replica")


def filled(
    settings: Settings, folder: Path, names: Sequence[str] = SATELLITES, kept: FileStream | None = None
) -> dict[str, list[str]]:
    """Apply the whole stream (or the file `kept`) to new satellites in `folder`; returns their dead letters' errors."""
    openings = {name: WorkerFactory(settings, name, find_factory(name, None)) for name in names}
    workers: dict[tuple[str, str], ShardWorker] = {}
    reader = kept or StreamReader(settings.stream, EARLIEST, stop_when_caught_up=True)
    for page in reader.pages():
        for name, opening in openings.items():
            if (name, page.shard) not in workers:
                workers[name, page.shard] = opening.open_shadow_worker(page.shard, folder, Cadence(2.0))
            workers[name, page.shard].process(page.records, page.behind_ms, _nothing)
    letters: dict[str, list[str]] = {name: [] for name in names}
    for (name, _), worker in workers.items():
        worker.finish(_nothing)
        letters[name] = [letter.error for letter in worker._delivery._letters.read()]
        worker.close()
    return letters


def differences(settings: Settings, folder: Path, names: Sequence[str] = SATELLITES) -> list[str]:
    """The differences between the satellites in `folder` and the source's tables, once no more changes are written."""
    found = []
    with closing(Source(settings.dsn)) as source:
        for name in names:
            check = Verification(source, replace(settings, data=str(folder)), name, lambda: Lsn(1))
            for verdict in check.run(check.tables([]), lambda _table, _text: None):
                found += [f"{name}: {difference}" for difference in verdict.differences]
    return found


def _nothing(mark: Checkpoint) -> None:
    """Checkpoint nothing: there are no leases."""
