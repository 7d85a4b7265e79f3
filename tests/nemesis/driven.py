"""Runs one satellite over a whole stream in this process, with the real worker and processor, and kills and resumes it.

It does what the KCL does, without its daemon: when a process ends, the next one continues after the last checkpoint.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from cdckit.runtime.settings import Settings
from cdckit.sink import Batch, Outcome, Sink
from consumers.kcl.processor import Processor
from consumers.stream.reader import StreamReader
from consumers.stream.record import RawRecord
from consumers.stream.start import EARLIEST
from consumers.worker.factory import WorkerFactory
from consumers.worker.registry import find_factory
from consumers.worker.shard import Cadence, ShardWorker

_BATCH = 20


def records(stream: str) -> Mapping[str, Sequence[RawRecord]]:
    """Every record of the stream, by shard."""
    found: dict[str, list[RawRecord]] = {}
    for page in StreamReader(stream, EARLIEST, stop_when_caught_up=True).pages():
        found.setdefault(page.shard, []).extend(page.records)
    return found


@dataclass
class Driven:
    """Delivers records to one satellite in the settings' folder.

    `kills` is the probability of a kill after each batch, `failures` of an unexpected error in a batch.
    """

    settings: Settings
    name: str
    kills: float = 0.0
    failures: float = 0.0
    flush_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    _checkpoints: dict[str, tuple[int, int]] = field(default_factory=dict)

    def deliver(self, shard: str, wanted: Sequence[RawRecord]) -> None:
        """Deliver all of these in order; then flush and checkpoint."""
        at, process = 0, self._process(shard)
        while at < len(wanted):
            try:
                process.process_records(self._input(shard, wanted[at : at + _BATCH]))
                at += _BATCH
                killed = self.chance.random() < self.kills
            except SystemExit:  # the worker ends its process after an error
                killed = True
            if killed:
                self._end(process)
                at, process = self._resume(shard, wanted), self._process(shard)
        process.shutdown_requested(self._input(shard, ()))
        self._end(process)

    def _process(self, shard: str) -> Processor:
        process = Processor(self._worker)
        process.initialize(SimpleNamespace(shard_id=shard, sequence_number=None))
        return process

    def _worker(self, shard: str) -> ShardWorker:
        factory = find_factory(self.name)
        workers = WorkerFactory(self.settings, self.name, lambda context: _Failing(factory(context), self._fails))
        return workers.open_shadow_worker(
            shard, self.settings.folder, Cadence(self.flush_seconds, self.checkpoint_seconds)
        )

    def _fails(self) -> bool:
        return self.chance.random() < self.failures

    def _input(self, shard: str, batch: Sequence[RawRecord]) -> Any:
        items = [
            SimpleNamespace(
                binary_data=record.data, partition_key=record.partition_key, sequence_number=record.sequence_number,
                sub_sequence_number=record.sub_sequence_number,
            )
            for record in batch
        ]  # fmt: skip
        checkpointer = SimpleNamespace(checkpoint=lambda number, sub: self._store(shard, int(number), sub))
        return SimpleNamespace(records=items, millis_behind_latest=0, checkpointer=checkpointer)

    def _store(self, shard: str, number: int, sub: int) -> None:
        self._checkpoints[shard] = (number, sub)

    def _resume(self, shard: str, wanted: Sequence[RawRecord]) -> int:
        """The index of the first record after the last checkpoint."""
        checkpoint = self._checkpoints.get(shard, (0, 0))
        done = [(int(record.sequence_number), record.sub_sequence_number) <= checkpoint for record in wanted]
        return next((at for at, is_done in zip(count(), done) if not is_done), len(wanted))

    @staticmethod
    def _end(process: Processor) -> None:
        """Close the sink without a flush: what was not flushed is lost, as when the process is killed."""
        process._opened.close()


class _Failing:
    """A sink whose `apply` sometimes raises an unexpected error."""

    def __init__(self, sink: Sink, fails: Any) -> None:
        self._sink, self._fails = sink, fails
        self.flush_seconds = getattr(sink, "flush_seconds", 0.0)

    def apply(self, batch: Batch) -> None:
        if self._fails():
            raise RuntimeError("an unexpected error")
        self._sink.apply(batch)

    def flush(self) -> Outcome:
        return self._sink.flush()

    def close(self) -> None:
        self._sink.close()
