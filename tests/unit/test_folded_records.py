"""Folded records: worker, readers and probes expand the many changes in one, and none is lost or read twice."""

import gzip
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdckit.aggregation import SubRecord, pack
from cdckit.envelope import decode
from cdckit.errors import EnvelopeError
from cdckit.packing import GZIP, MAX_DECOMPRESSED_BYTES, MAX_FOLDED_CHANGES, compress, split_folded
from cdckit.testing import FaultySink, MemorySink
from consumers.kcl import processor
from consumers.kcl.processor import Processor
from consumers.stream.reader import ShardPage, StreamReader
from consumers.stream.record import RawRecord
from consumers.stream.start import EARLIEST
from consumers.stream.unpack import MAX_UNPACKED_BYTES, expand_folded, expand_record
from consumers.worker.shard import Cadence, Checkpoint, portions
from tests.unit.test_shard import Bench, PoisonIdsSink, record


def packed(text: bytes) -> bytes:
    """The same bytes at every call, so that parametrized tests have the same names in all of pytest's workers."""
    return gzip.compress(text, mtime=0)


def folded(numbers: Sequence[int], place: int) -> RawRecord:
    return RawRecord(packed(b"".join(record(n).data + b"\n" for n in numbers)), "cdc", str(place))


def test_a_folded_record_is_its_changes_and_any_other_is_itself() -> None:
    lines = [record(n).data for n in range(3)]
    for end in (b"", b"\n"):
        assert split_folded(packed(b"\n".join(lines) + end)) == lines
    for alone in (lines[0], compress(lines[0]), b"no change", b""):
        assert list(split_folded(alone)) == [alone]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(packed(b"{}\n" * (MAX_FOLDED_CHANGES + 1)), id="too many changes"),
        pytest.param(packed(b"\n" * MAX_DECOMPRESSED_BYTES + b"x"), id="a bomb"),
        pytest.param(packed(b"{}\n{}") + packed(b"{}"), id="more after its end"),
        pytest.param(packed(b"{}\n{}")[:-4] + b"\x00\x00\x00\x00", id="claims another size"),
        pytest.param(packed(b"{}\n{}")[:-1], id="cut off"),
        pytest.param(GZIP, id="a head alone"),
    ],
)
def test_a_record_that_cannot_be_expanded_becomes_one_dead_letter(tmp_path: Path, broken: bytes) -> None:
    with pytest.raises(EnvelopeError):
        split_folded(broken)
    with pytest.raises(EnvelopeError):
        decode(broken)
    bench = Bench(tmp_path, sink := MemorySink())
    bench.process(record(1), RawRecord(broken, "cdc", "2"), record(3))
    assert len(sink.rows) == 2
    assert [(one.sequence_number, one.data) for one in bench.letters.read()] == [("2", broken)]
    assert bench.checkpoints[-1] == Checkpoint("3", 0)


def test_a_folded_record_is_applied_whole_and_checkpointed_as_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := MemorySink())
    bench.process(record(1), folded(range(2, 900), 2))
    assert len(sink.rows) == 899
    assert bench.checkpoints == [Checkpoint("2", 0)]
    assert bench.report().read == 899


def test_poison_in_a_folded_record_is_a_letter_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sink := PoisonIdsSink(7, 9))
    bench.process(folded(range(20), 1))
    assert len(sink.rows) == 18
    letters = bench.letters.read()
    assert [(one.sequence_number, one.sub_sequence_number, one.data) for one in letters] == [
        ("1", 7, record(7).data), ("1", 9, record(9).data)
    ]  # fmt: skip
    assert len({one.id for one in letters}) == 2


def test_a_folded_record_that_is_cut_is_checkpointed_only_at_its_end() -> None:
    found = list(portions([record(1), folded(range(10), 2), record(3)], max_records=4))
    assert [len(one.records) for one in found] == [4, 4, 4]
    assert [one.checkpoint for one in found] == [Checkpoint("1", 0), Checkpoint("1", 0), Checkpoint("3", 0)]
    assert [item.sub_sequence_number for one in found for item in one.records] == [0, *range(10), 0]
    found = list(portions([folded(range(10), 1), folded(range(4), 2)], max_records=5))
    assert [(len(one.records), one.checkpoint) for one in found] == [
        (5, None), (5, Checkpoint("1", 0)), (4, Checkpoint("2", 0))
    ]  # fmt: skip


def test_what_was_flushed_before_an_error_is_checkpointed_to_a_record_s_end(tmp_path: Path) -> None:
    sink = FaultySink(flush_errors={2: OSError("disk full")})
    bench = Bench(tmp_path, sink)
    huge = folded(range(MAX_FOLDED_CHANGES), 2), folded(range(MAX_FOLDED_CHANGES), 3), folded(range(5000), 4)
    with pytest.raises(OSError, match="disk full"):
        bench.process(*huge)
    assert bench.checkpoints == [Checkpoint("3", 0)], "20,000 changes were flushed: up to the end of record 3"


def test_a_long_page_is_checkpointed_on_the_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemorySink(), Cadence(0, 3600, checkpoint_records=20_000))
    bench.process(*(folded(range(MAX_FOLDED_CHANGES), place) for place in range(1, 8)))
    assert bench.checkpoints == [Checkpoint("2", 0), Checkpoint("4", 0), Checkpoint("6", 0)]


def test_a_page_is_expanded_in_parts(tmp_path: Path) -> None:
    """A part is limited by its expanded size, which each record has at its end."""
    large = packed(record(1).data + b"\n" + b'{"x":"%b"}' % (b"x" * (MAX_UNPACKED_BYTES // 2)))
    found = [one.size for one in portions([RawRecord(large, "cdc", str(n)) for n in range(6)])]
    assert len(found) == 6
    assert max(found) < MAX_UNPACKED_BYTES


def test_a_folded_record_within_an_aggregated_one_is_no_change(tmp_path: Path) -> None:
    """The producer makes none. If it were expanded there, its changes would get the numbers of other records."""
    bench = Bench(tmp_path, MemorySink())
    bench.process(RawRecord(record(1).data, "k", "1", 0), RawRecord(folded([2, 3], 1).data, "k", "1", 1))
    assert [one.sub_sequence_number for one in bench.letters.read()] == [1]
    [first, second] = expand_record(
        item(pack([SubRecord("k", record(1).data), SubRecord("k", folded([2, 3], 1).data)]), 1)
    )
    assert (first.sub_sequence_number, second.sub_sequence_number) == (0, 1)
    assert expand_folded(second) == (second,)


def item(data: bytes, place: int) -> dict[str, Any]:
    return {
        "SequenceNumber": str(place), "PartitionKey": "k", "Data": data,
        "ApproximateArrivalTimestamp": datetime(2026, 11, 25, tzinfo=UTC),
    }  # fmt: skip


class Kinesis:
    """One shard that returns its records in one page."""

    def __init__(self, items: Sequence[dict[str, Any]], behind: int = 0) -> None:
        self.items, self.behind = items, behind

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **_: object) -> Any:
        yield {"Shards": [{"ShardId": "shardId-0", "SequenceNumberRange": {}}]}

    def get_shard_iterator(self, **_: Any) -> Any:
        return {"ShardIterator": "x"}

    def get_records(self, **_: Any) -> Any:
        return {"Records": self.items, "NextShardIterator": "x", "MillisBehindLatest": self.behind}


def pages(items: Sequence[dict[str, Any]]) -> list[ShardPage]:
    return list(StreamReader("s", EARLIEST, True, client=cast(Any, Kinesis(items))).pages())


def test_a_reader_sees_the_changes_of_folded_records_with_their_arrivals() -> None:
    [page] = pages([item(record(0).data, 1), item(folded(range(1, 5), 2).data, 2)])
    assert [decode(one.data).key["id"] for one in page.records] == [0, 1, 2, 3, 4]
    assert [(one.sequence_number, one.sub_sequence_number) for one in page.records] == [
        ("1", 0), ("2", 0), ("2", 1), ("2", 2), ("2", 3)
    ]  # fmt: skip
    assert len(page.arrivals) == 5
    assert (page.checkpoint, page.behind_ms) == ("2", 0)


def test_a_reader_splits_a_page_of_folded_records_each_part_with_its_checkpoint() -> None:
    filler = b'{"x":"%b"}' % (b"x" * (MAX_UNPACKED_BYTES // 2))
    items = [item(packed(record(n).data + b"\n" + filler), n) for n in range(1, 6)]
    found = pages(items)
    assert [page.checkpoint for page in found] == ["1", "2", "3", "4", "5"]
    assert [page.behind_ms > 0 for page in found] == [True] * 4 + [False], "the tip is reached with the last"
    assert [len(page.records) for page in found] == [2] * 5


def test_an_empty_page_is_one_page() -> None:
    [page] = pages([])
    assert (page.records, page.checkpoint, page.behind_ms) == ([], None, 0)


def test_a_compressed_record_is_not_taken_for_a_folded_one() -> None:
    one = RawRecord(compress(record(1).data), "k", "1")
    assert expand_folded(one) == (one,)


def test_a_page_is_cut_short_when_a_stop_is_requested(tmp_path: Path) -> None:
    """What was applied is flushed, and checkpointed up to the end of a record; the rest is not applied."""
    sink = MemorySink()
    sink.max_changes = 300  # type: ignore[attr-defined]
    bench, answers = Bench(tmp_path, sink, Cadence(3600, 3600)), iter([False, False, False, False, True])
    page = [folded(range(at, at + 500), 1 + at // 500) for at in range(0, 2_000, 500)]
    assert not bench.worker.process(page, 0, bench.checkpoints.append, lambda: next(answers))
    assert len(sink.rows) == 1_200
    assert bench.checkpoints == [Checkpoint("2", 0)]
    assert bench.report().applied == 1_200


class KclCalls:
    """Calls a processor as the KCL does."""

    def __init__(self, folder: Path, stop_requested: Callable[[], bool]) -> None:
        self.bench = Bench(folder, MemorySink())
        self.processor = Processor(lambda _: self.bench.worker, stop_requested)
        self.processor.initialize(SimpleNamespace(shard_id="shardId-0", sequence_number=None))
        self.ended = 0

    def records(self, *records: RawRecord) -> None:
        items = [
            SimpleNamespace(
                binary_data=one.data, partition_key="k", sequence_number=one.sequence_number, sub_sequence_number=0
            )
            for one in records
        ]
        self.processor.process_records(
            SimpleNamespace(records=items, millis_behind_latest=0, checkpointer=self._checkpointer)
        )

    def end(self) -> None:
        self.processor.shard_ended(SimpleNamespace(checkpointer=self._checkpointer))

    @property
    def _checkpointer(self) -> SimpleNamespace:
        return SimpleNamespace(checkpoint=lambda *place: self.bench.checkpoints.append(Checkpoint(*place)))


def test_nothing_is_applied_after_a_page_that_was_cut_short_nor_is_an_end_checkpointed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True])
    kcl = KclCalls(tmp_path, lambda: next(answers))
    kcl.records(record(1))
    kcl.records(record(2))
    kcl.records(record(3))
    assert kcl.bench.checkpoints == [Checkpoint("1", 0)]
    with pytest.raises(SystemExit):
        kcl.end()
    monkeypatch.setattr(processor, "_MAX_STOP_SECONDS", -1.0)
    with pytest.raises(SystemExit):
        kcl.records(record(4))
    assert kcl.bench.checkpoints == [Checkpoint("1", 0)]


def test_a_process_whose_daemon_ended_ends_inside_its_page() -> None:
    code = """
import os, signal
from consumers.kcl.shutdown import DaemonGone, StopRequest
read, write = os.pipe()
stop_requested = StopRequest(read)
os.write(write, b"x")
assert not stop_requested()
os.kill(os.getpid(), signal.SIGTERM)
assert stop_requested()
os.close(write)
try:
    stop_requested()
except DaemonGone:
    print("gone")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "gone\n"
