"""A shard's worker without the KCL, for unit tests."""

from pathlib import Path

from cdckit.envelope import VERSION, Metadata, inject
from cdckit.errors import PoisonChange
from cdckit.sink import Batch
from cdckit.testing import MemorySink
from consumers.dead_letters import open_store
from consumers.stream.record import RawRecord
from consumers.worker.shard import Cadence, Checkpoint, ShardWorker
from consumers.worker.status import Report, ShardReporter, read_reports, status_folder

SHARD = "shardId-000000000000"
EAGER = Cadence(0, 0)


def record(number: int, data: bytes | None = None) -> RawRecord:
    """A record of an insert, or of `data`; `number` is its sequence number and the row's id."""
    row = (
        b'{"action":"I","xid":7,"timestamp":"2026-11-24 04:14:15+00","lsn":"0/10","schema":"public","table":"orders",'
        b'"columns":[{"name":"id","type":"integer","value":%d}],"pk":[{"name":"id","type":"integer"}]}' % number
    )
    return RawRecord(data or inject(row, Metadata(VERSION, 1, "0/64", number, "main")), "key", str(number))


class WorkerBench:
    """A shard's worker with a sink, and the checkpoints that it made."""

    def __init__(self, folder: Path, sink: object, cadence: Cadence = EAGER, max_dead_share: float = 1.0) -> None:
        self.checkpoints: list[Checkpoint] = []
        self.folder = folder
        self.letters = open_store("", "test", folder)
        reporter = ShardReporter(status_folder(folder, "test"), "test", SHARD)
        self.worker = ShardWorker(sink, self.letters, reporter, cadence, max_dead_share)  # type: ignore[arg-type]

    def process(self, *records: RawRecord) -> None:
        """Deliver records to the worker."""
        self.worker.process(records, 0, self.checkpoints.append)

    def report(self) -> Report:
        """The worker's current report."""
        self.worker.reporter.write()
        [report] = read_reports(self.folder, "test")
        return report


class PoisonIdsSink(MemorySink):
    """Rejects some ids as poison, in any batch."""

    def __init__(self, *poison: int) -> None:
        super().__init__()
        self.poison = set(poison)

    def apply(self, batch: Batch) -> None:
        if any(change.key["id"] in self.poison for change in batch.changes):
            raise PoisonChange("cannot be applied, ever")
        super().apply(batch)
