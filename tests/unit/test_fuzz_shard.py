"""Garbage on the stream never crashes the worker: it becomes dead letters, and the good records are applied."""

import base64
import json
import random
import zlib
from pathlib import Path

from cdckit.testing import MemorySink
from consumers.dead_letters import open_store
from consumers.stream.record import RawRecord
from consumers.worker.shard import Cadence, ShardWorker
from consumers.worker.status import ShardReporter, status_folder
from tests.support.histories import entry
from tests.support.scale import scale

GOOD = entry("I", 1, "good", 1).data


def garbage(chance: random.Random) -> bytes:
    """Bytes of many kinds that are not a change."""
    cut = chance.randrange(1, len(GOOD) - 1)
    kinds = (
        lambda: chance.randbytes(chance.randrange(0, 200)),
        lambda: GOOD[:cut],
        lambda: GOOD[:cut] + chance.randbytes(3) + GOOD[cut:],
        lambda: json.dumps({"action": "I", "cdc": chance.choice([None, 1, [], {"v": "x"}])}).encode(),
        lambda: json.dumps(chance.choice([None, 1, [], "text", {"a": 1}, 1e400])).encode(),
        lambda: GOOD.replace(b'"epoch":1', b'"epoch":"one"'),
        lambda: GOOD.replace(b'"v":1', b'"v":99'),
        lambda: GOOD.replace(b'"commit_lsn":"0/1"', b'"commit_lsn":"zz"'),
        lambda: GOOD.replace(b"2026-11-24 04:14:15+00", b"not a time"),
        lambda: GOOD.replace(b'"action":"I"', b'"action":"X"'),
        lambda: b"[" * chance.randrange(1, 5000),
        lambda: zlib.compress(bytes(chance.randrange(1, 10_000))),
        lambda: base64.b64encode(chance.randbytes(50)),
        lambda: b"\xf3\x89\x9a\xc2" + chance.randbytes(chance.randrange(0, 60)),
    )
    return chance.choice(kinds)()


def test_garbage_between_good_records(tmp_path: Path) -> None:
    chance, count = random.Random(20261124), scale(2000, 10_000)
    sink, letters = MemorySink(), open_store("", "test", tmp_path)
    reporter = ShardReporter(status_folder(tmp_path, "test"), "test", "shardId-000000000000")
    worker = ShardWorker(sink, letters, reporter, Cadence(), max_dead_share=1.0)
    records, bad = [], 0
    for number in range(1, count + 1):
        while (data := garbage(chance)) and _is_good(data):
            continue
        bad += 1
        records += [
            RawRecord(data, "k", str(2 * number)),
            RawRecord(entry("I", number, "good", number).data, "k", str(2 * number + 1)),
        ]
    for start in range(0, len(records), 500):
        worker.process(records[start : start + 500], 0, lambda mark: None)
    assert len(sink.rows) == count
    stored = letters.read()
    assert len(stored) == bad == count
    assert [letter.data for letter in stored] == [record.data for record in records[::2]]
    assert reporter.report.read == reporter.report.applied + reporter.report.dead_lettered == 2 * count


def _is_good(data: bytes) -> bool:
    """Whether the bytes are still a change: random bytes may leave it readable."""
    from cdckit.envelope import decode
    from cdckit.errors import EnvelopeError

    try:
        decode(data)
    except EnvelopeError:
        return False
    return True


def test_ten_mebibytes_of_zeros_and_a_bomb(tmp_path: Path) -> None:
    letters = open_store("", "test", tmp_path)
    reporter = ShardReporter(status_folder(tmp_path, "test"), "test", "shardId-000000000000")
    worker = ShardWorker(MemorySink(), letters, reporter, Cadence(), max_dead_share=1.0)
    bomb = zlib.compress(bytes(200 * 1024 * 1024), 9)
    worker.process([RawRecord(bytes(10 * 1024 * 1024), "k", "1"), RawRecord(bomb, "k", "2")], 0, lambda mark: None)
    assert [letter.sequence_number for letter in letters.read()] == ["1", "2"]
