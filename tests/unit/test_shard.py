"""The shard worker checkpoints late, skips nothing silently, and limits its retries."""

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.envelope import VERSION, Metadata, inject
from cdckit.errors import ConsumerError, PoisonChange, TransientSinkError
from cdckit.sink import Batch, Outcome
from cdckit.testing import FaultySink, MemorySink, transient
from consumers.dead_letters import DeadLetter, open_store
from consumers.stream.record import RawRecord
from consumers.worker.delivery import TooManyDeadLetters
from consumers.worker.shard import Cadence, Checkpoint, ShardWorker
from consumers.worker.status import Report, ShardReporter, read_reports, status_folder

SHARD = "shardId-000000000000"
EAGER = Cadence(0, 0)


def record(number: int, data: bytes | None = None) -> RawRecord:
    row = (
        b'{"action":"I","xid":7,"timestamp":"2026-11-24 04:14:15+00","lsn":"0/10","schema":"public","table":"orders",'
        b'"columns":[{"name":"id","type":"integer","value":%d}],"pk":[{"name":"id","type":"integer"}]}' % number
    )
    return RawRecord(data or inject(row, Metadata(VERSION, 1, "0/64", number, "main")), "key", str(number))


class Bench:
    """A worker with a sink, and the checkpoints that it made."""

    def __init__(self, folder: Path, sink: object, cadence: Cadence = EAGER, max_dead_share: float = 1.0) -> None:
        self.checkpoints: list[Checkpoint] = []
        self.folder = folder
        self.letters = open_store("", "test", folder)
        reporter = ShardReporter(status_folder(folder, "test"), "test", SHARD)
        self.worker = ShardWorker(sink, self.letters, reporter, cadence, max_dead_share)  # type: ignore[arg-type]

    def process(self, *records: RawRecord) -> None:
        self.worker.process(records, 0, self.checkpoints.append)

    def report(self) -> Report:
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


def test_a_batch_is_applied_flushed_and_checkpointed_at_its_last_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := MemorySink())
    bench.process(record(1), record(2))
    assert set(sink.rows) == {"main/public.orders/[1]", "main/public.orders/[2]"}
    assert bench.checkpoints == [Checkpoint("2", 0)]


def test_nothing_is_checkpointed_before_flush_has_returned(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FaultySink(flush_errors={1: OSError("disk full")}))
    with pytest.raises(OSError, match="disk full"):
        bench.process(record(1))
    assert bench.checkpoints == []


def test_a_sink_may_ask_for_small_batches_which_are_flushed_together(tmp_path: Path) -> None:
    class Portions(MemorySink):
        max_changes = 3

        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def apply(self, batch: Batch) -> None:
            self.sizes.append(len(batch.items))
            super().apply(batch)

        def flush(self) -> Outcome:
            self.sizes.append(0)
            return super().flush()

    bench = Bench(tmp_path, sink := Portions())
    bench.process(*map(record, range(7)))
    assert sink.sizes == [3, 3, 1, 0]
    assert bench.checkpoints == [Checkpoint("6", 0)]
    assert bench.report().read == bench.report().applied == 7


def test_an_empty_call_flushes_and_checkpoints_what_is_due(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink(), Cadence(0.05, 0))
    bench.process(record(1))
    assert bench.checkpoints == []
    time.sleep(0.06)
    bench.process()
    assert bench.checkpoints == [Checkpoint("1", 0)]


def test_a_sink_may_ask_for_rarer_flushes(tmp_path: Path) -> None:
    class Slow(MemorySink):
        flush_seconds = 3600.0

    bench = Bench(tmp_path, Slow())
    bench.process(record(1))
    assert bench.checkpoints == []
    bench.worker.finish(bench.checkpoints.append)
    assert bench.checkpoints == [Checkpoint("1", 0)]


def test_a_transient_error_is_retried_with_the_same_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := FaultySink(apply_errors=transient(1, 2)))
    bench.process(record(1))
    assert sink.applies == 3
    assert bench.checkpoints == [Checkpoint("1", 0)]


def test_any_other_error_is_raised(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FaultySink(apply_errors={1: KeyError("bug")}))
    with pytest.raises(KeyError):
        bench.process(record(1))
    assert bench.checkpoints == []


def test_transient_errors_are_retried_a_limited_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.worker.delivery.time.sleep", lambda seconds: None)
    bench = Bench(tmp_path, FaultySink(apply_errors=transient(*range(1, 100))))
    with pytest.raises(TransientSinkError):
        bench.process(record(1))


def test_garbage_is_stored_with_its_bytes_and_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := MemorySink())
    bench.process(record(1), record(2, b"\x00garbage"), record(3))
    assert len(sink.rows) == 2
    [letter] = bench.letters.read()
    assert (letter.sequence_number, letter.data, letter.shard) == ("2", b"\x00garbage", SHARD)
    report = bench.report()
    assert (report.read, report.applied, report.superseded, report.dead_lettered) == (3, 2, 0, 1)


def test_redelivered_garbage_counts_once_among_the_dead_letters(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink())
    bench.process(record(2, b"garbage"))
    bench.process(record(2, b"garbage"))
    assert len(bench.letters.read()) == 1


def test_a_dead_letter_cut_by_a_crash_does_not_hide_the_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink())
    bench.process(record(1, b"garbage"))
    (tmp_path / "dead-letters" / "test" / SHARD / "2-0.json").write_bytes(b'{"shard":"shardId')
    assert len(bench.letters.read()) == 1


def test_a_sink_that_miscounts_ends_the_process(tmp_path: Path) -> None:
    class Forgetful(MemorySink):
        def flush(self) -> Outcome:
            super().flush()
            return Outcome(applied=0)

    bench = Bench(tmp_path, Forgetful())
    with pytest.raises(ConsumerError, match="1 records read"):
        bench.process(record(1))
    assert bench.checkpoints == []


def test_the_end_of_a_shard_is_checkpointed_after_the_flush(tmp_path: Path) -> None:
    class Slow(MemorySink):
        flush_seconds = 3600.0

    sink, at_the_end = Slow(), []
    bench = Bench(tmp_path, sink)
    bench.process(record(1))
    bench.worker.end_shard(lambda: at_the_end.append(bench.worker.reporter.report.applied))
    assert at_the_end == [1]


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
    assert bench.checkpoints == [Checkpoint("1", 0)]


@given(st.integers(1, 60), st.sets(st.integers(1, 60)))
def test_each_poison_change_is_found_and_all_others_are_applied(count: int, poison: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), sink := PoisonIdsSink(*poison))
        bench.process(*map(record, range(1, count + 1)))
        letters = bench.letters.read()
    dead = poison & set(range(1, count + 1))
    assert [int(letter.sequence_number) for letter in letters] == sorted(dead)
    assert len(sink.rows) == count - len(dead)
    assert bench.checkpoints == [Checkpoint(str(count), 0)]
    report = bench.worker.reporter.report
    assert (report.read, report.applied, report.dead_lettered) == (count, count - len(dead), len(dead))


def test_a_letter_of_a_poison_change_has_its_place_and_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PoisonIdsSink(2))
    bench.process(record(1), record(2))
    [letter] = bench.letters.read()
    assert (letter.shard, letter.sequence_number, letter.table) == (SHARD, "2", "public.orders")
    assert letter.error == "cannot be applied, ever"
    assert letter.position.endswith("2")
    assert letter.data == record(2).data
    assert len(letter.id) == 12


def test_it_stops_when_too_large_a_share_of_recent_records_fails(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink(), max_dead_share=0.5)
    with pytest.raises(TooManyDeadLetters, match="could not be applied"):
        bench.process(*[record(number, b"garbage") for number in range(1, 500)])
    assert len(bench.letters.read()) == 50, "and not the whole stream"
    assert bench.checkpoints == []
    assert "--max-dead-share" in bench.report().stopped


def test_a_restart_does_not_forget_the_share(tmp_path: Path) -> None:
    with pytest.raises(TooManyDeadLetters):
        Bench(tmp_path, MemorySink(), max_dead_share=0.5).process(*[record(n, b"garbage") for n in range(1, 500)])
    again = Bench(tmp_path, MemorySink(), max_dead_share=0.5)
    with pytest.raises(TooManyDeadLetters):
        again.process(*[record(number, b"garbage") for number in range(1, 500)])
    assert len(again.letters.read()) == 50, "the first failure is enough now"


def test_a_small_share_of_dead_letters_never_stops_the_consumer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink(), max_dead_share=0.1)
    for start in range(0, 6000, 100):
        bench.process(*[record(start + n, b"garbage" if n % 20 == 0 else None) for n in range(100)])
    assert bench.report().dead_lettered == 300


def test_a_transient_error_of_flush_is_retried(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FaultySink(flush_errors=transient(1)))
    bench.process(record(1))
    assert bench.checkpoints == [Checkpoint("1", 0)]


def test_many_records_or_bytes_are_checkpointed_before_the_time(tmp_path: Path) -> None:
    size = len(record(1).data)
    for cadence in (Cadence(0, 3600, checkpoint_records=3), Cadence(0, 3600, checkpoint_bytes=3 * size)):
        bench = Bench(tmp_path, MemorySink(), cadence)
        bench.process(record(1), record(2))
        assert bench.checkpoints == []
        bench.process(record(3))
        assert bench.checkpoints == [Checkpoint("3", 0)]


def test_sub_sequence_numbers_are_checkpointed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink())
    bench.process(RawRecord(record(1).data, "key", "7", 4))
    assert bench.checkpoints == [Checkpoint("7", 4)]


def test_a_letter_s_id_is_its_place(tmp_path: Path) -> None:
    first = DeadLetter.of("test", SHARD, record(5), ValueError("x"), None)
    second = DeadLetter.of("test", SHARD, record(5), ValueError("y"), None)
    assert first.id == second.id
