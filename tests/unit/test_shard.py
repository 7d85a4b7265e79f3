"""The shard worker: checkpoint late, no silent skip, bounded retries."""

from pathlib import Path

import pytest

from cdckit.envelope import VERSION, Stamp, splice
from cdckit.errors import ConsumerError, TransientSinkError
from cdckit.sink import Batch, Outcome
from cdckit.testing import FaultySink, MemorySink, transient
from consumers.dead_letters import LocalDeadLetters
from consumers.figures import ShardFigures, read_reports, status_folder
from consumers.shard import Cadence, Mark, RawRecord, ShardWorker

SHARD = "shardId-000000000000"
EAGER = Cadence(0, 0)


def record(number: int, data: bytes | None = None) -> RawRecord:
    row = (
        b'{"action":"I","xid":7,"timestamp":"2026-11-24 04:14:15+00","lsn":"0/10","schema":"public","table":"orders",'
        b'"columns":[{"name":"id","type":"integer","value":%d}],"pk":[{"name":"id","type":"integer"}]}' % number
    )
    return RawRecord(data or splice(row, Stamp(VERSION, 1, "0/64", number, "main")), "key", str(number))


class Bench:
    """A worker with a sink, and the checkpoints it made."""

    def __init__(self, folder: Path, sink: object, cadence: Cadence = EAGER) -> None:
        self.marks: list[Mark] = []
        self.folder = folder
        self.letters = LocalDeadLetters(folder / "dead")
        figures = ShardFigures(status_folder(folder, "test"), "test", SHARD)
        self.worker = ShardWorker(SHARD, sink, self.letters, figures, cadence)  # type: ignore[arg-type]

    def process(self, *records: RawRecord) -> None:
        self.worker.process(records, 0, self.marks.append)


def test_a_batch_is_applied_flushed_and_checkpointed_at_its_last_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := MemorySink())
    bench.process(record(1), record(2))
    assert set(sink.rows) == {"main/public.orders/[1]", "main/public.orders/[2]"}
    assert bench.marks == [Mark("2", 0)]


def test_nothing_is_checkpointed_before_flush_has_returned(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FaultySink(flush_errors={1: OSError("disk full")}))
    with pytest.raises(OSError, match="disk full"):
        bench.process(record(1))
    assert bench.marks == []


def test_an_empty_call_flushes_and_checkpoints_what_is_due(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink(), Cadence(0.05, 0))
    bench.process(record(1))
    assert bench.marks == []
    import time

    time.sleep(0.06)
    bench.process()
    assert bench.marks == [Mark("1", 0)]


def test_a_sink_may_ask_for_rarer_flushes(tmp_path: Path) -> None:
    class Slow(MemorySink):
        flush_seconds = 3600.0

    bench = Bench(tmp_path, Slow())
    bench.process(record(1))
    assert bench.marks == []
    bench.worker.finish(bench.marks.append)
    assert bench.marks == [Mark("1", 0)]


def test_a_transient_error_is_tried_again_with_the_same_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := FaultySink(apply_errors=transient(1, 2)))
    bench.process(record(1))
    assert sink.applies == 3
    assert bench.marks == [Mark("1", 0)]


def test_any_other_error_comes_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FaultySink(apply_errors={1: KeyError("bug")}))
    with pytest.raises(KeyError):
        bench.process(record(1))
    assert bench.marks == []


def test_transient_errors_do_not_go_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.shard.time.sleep", lambda seconds: None)
    bench = Bench(tmp_path, FaultySink(apply_errors=transient(*range(1, 100))))
    with pytest.raises(TransientSinkError):
        bench.process(record(1))


def test_garbage_is_kept_with_its_bytes_and_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := MemorySink())
    bench.process(record(1), record(2, b"\x00garbage"), record(3))
    assert len(sink.rows) == 2
    [letter] = bench.letters.read()
    assert (letter.sequence_number, letter.data, letter.shard) == ("2", b"\x00garbage", SHARD)
    [report] = read_reports(tmp_path, "test")
    bench.worker.figures.write()
    [report] = read_reports(tmp_path, "test")
    assert (report.read, report.applied, report.superseded, report.dead_lettered) == (3, 2, 0, 1)


def test_redelivered_garbage_counts_once_among_the_dead_letters(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink())
    bench.process(record(2, b"garbage"))
    bench.process(record(2, b"garbage"))
    assert len(bench.letters.read()) == 1


def test_a_dead_letter_cut_by_a_crash_does_not_hide_the_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink())
    bench.process(record(1, b"garbage"))
    with (tmp_path / "dead" / f"{SHARD}.jsonl").open("ab") as file:
        file.write(b'{"shard":"shardId')
    assert len(bench.letters.read()) == 1


def test_a_sink_that_loses_count_ends_the_process(tmp_path: Path) -> None:
    class Forgetful(MemorySink):
        def flush(self) -> Outcome:
            super().flush()
            return Outcome(applied=0)

    bench = Bench(tmp_path, Forgetful())
    with pytest.raises(ConsumerError, match="1 records read"):
        bench.process(record(1))
    assert bench.marks == []


def test_the_end_of_a_shard_is_told_after_the_flush(tmp_path: Path) -> None:
    class Slow(MemorySink):
        flush_seconds = 3600.0

    sink, told = Slow(), []
    bench = Bench(tmp_path, sink)
    bench.process(record(1))
    bench.worker.ended(lambda: told.append(bench.worker.figures.report.applied))
    assert told == [1]


def test_closing_after_a_lost_lease_flushes_nothing(tmp_path: Path) -> None:
    class Slow(MemorySink):
        flush_seconds = 3600.0
        flushes = 0

        def flush(self) -> Outcome:
            self.flushes += 1
            return super().flush()

    bench = Bench(tmp_path, sink := Slow())
    bench.process(record(1))
    bench.worker.close()
    assert sink.closed
    assert sink.flushes == 0


def test_a_batch_is_never_empty(tmp_path: Path) -> None:
    seen: list[Batch] = []

    class Watching(MemorySink):
        def apply(self, batch: Batch) -> None:
            seen.append(batch)
            super().apply(batch)

    bench = Bench(tmp_path, Watching())
    bench.process(record(1, b"garbage"))
    bench.process()
    assert seen == []
    assert bench.marks == [Mark("1", 0)]
