"""One satellite over a whole stream in this process: the real kit under the real processor class, killed and resumed.

What the KCL does, without its daemon: a process that ends is followed by one that goes on behind the last checkpoint.
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
    """Delivers to one satellite in the settings' folder; `kills` is the chance of one after each batch.

    `failures` is the chance that a batch meets an error that nobody expected.
    """

    settings: Settings
    name: str
    kills: float = 0.0
    failures: float = 0.0
    flush_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    _marks: dict[str, tuple[int, int]] = field(default_factory=dict)

    def deliver(self, shard: str, wanted: Sequence[RawRecord]) -> None:
        """All of these, in order; then flush and checkpoint."""
        at, process = 0, self._process(shard)
        while at < len(wanted):
            try:
                process.process_records(self._input(shard, wanted[at : at + _BATCH]))
                at += _BATCH
                killed = self.chance.random() < self.kills
            except SystemExit:  # the kit's way to end the process
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
                binary_data=one.data, partition_key=one.partition_key, sequence_number=one.sequence_number,
                sub_sequence_number=one.sub_sequence_number,
            )
            for one in batch
        ]  # fmt: skip
        checkpointer = SimpleNamespace(checkpoint=lambda number, sub: self._mark(shard, int(number), sub))
        return SimpleNamespace(records=items, millis_behind_latest=0, checkpointer=checkpointer)

    def _mark(self, shard: str, number: int, sub: int) -> None:
        self._marks[shard] = (number, sub)

    def _resume(self, shard: str, wanted: Sequence[RawRecord]) -> int:
        """Behind the last checkpoint, where it is among these records; else from their first."""
        mark = self._marks.get(shard, (0, 0))
        done = [(int(one.sequence_number), one.sub_sequence_number) <= mark for one in wanted]
        return next((at for at, one in zip(count(), done) if not one), len(wanted))

    @staticmethod
    def _end(process: Processor) -> None:
        """What was not flushed is gone, as with the process."""
        process._opened.close()


class _Failing:
    """A sink whose `apply` now and then raises what nobody expected."""

    def __init__(self, sink: Sink, fails: Any) -> None:
        self._sink, self._fails = sink, fails
        self.flush_seconds = getattr(sink, "flush_seconds", 0.0)

    def apply(self, batch: Batch) -> None:
        if self._fails():
            raise RuntimeError("nobody expected this")
        self._sink.apply(batch)

    def flush(self) -> Outcome:
        return self._sink.flush()

    def close(self) -> None:
        self._sink.close()
