"""Redrive: an applied letter is dropped, one that fails again stays, an old change never overwrites a newer one."""

from pathlib import Path

from cdckit.errors import PoisonChange
from cdckit.sink import Batch
from cdckit.testing import MemorySink, deliver
from consumers.dead_letters import DeadLetter, DeadLetterStore, open_store
from consumers.stream.record import RawRecord
from consumers.worker.redrive import redrive
from tests.support.histories import entry, folded

SHARD = "shardId-000000000000"


def store_letter(store: DeadLetterStore, number: int, data: bytes) -> DeadLetter:
    letter = DeadLetter.of("test", SHARD, RawRecord(data, "key", str(number)), PoisonChange("then"), None)
    store.put(letter)
    return letter


def test_a_letter_that_is_applied_is_dropped(tmp_path: Path) -> None:
    store, sink = open_store("", "test", tmp_path), MemorySink()
    store_letter(store, 1, entry("I", 1, "one", 10).data)
    store_letter(store, 2, entry("I", 2, "two", 11).data)
    done = redrive(store.read(), store, lambda: sink)
    assert (done.outcome.applied, list(done.remaining), list(store.read())) == (2, [], [])
    assert sink.closed


def test_an_old_change_never_overwrites_a_newer_one(tmp_path: Path) -> None:
    store, sink = open_store("", "test", tmp_path), MemorySink()
    deliver(sink, entry("I", 1, "new", 20).change)
    store_letter(store, 1, entry("U", 1, "old", 10).data)
    done = redrive(store.read(), store, lambda: sink)
    assert (done.outcome.applied, done.outcome.superseded) == (0, 1)
    assert [row["value"] for row in sink.rows.values()] == ["new"]
    assert not store.read()


def test_a_letter_that_fails_again_stays_and_the_others_are_applied(tmp_path: Path) -> None:
    class PoisonSink(MemorySink):
        def apply(self, batch: Batch) -> None:
            if batch.changes[0].key["id"] == 2:
                raise PoisonChange("still not")
            super().apply(batch)

    store, sink = open_store("", "test", tmp_path), PoisonSink()
    garbage = store_letter(store, 1, b"\x00garbage")
    poison = store_letter(store, 2, entry("I", 2, "two", 11).data)
    store_letter(store, 3, entry("I", 3, "three", 12).data)
    done = redrive(store.read(), store, lambda: sink)
    assert [letter.id for letter, _ in done.remaining] == [garbage.id, poison.id]
    assert [letter.id for letter in store.read()] == [garbage.id, poison.id]
    assert done.remaining[1][1] == "still not"
    assert len(sink.rows) == 1


def test_a_folded_record_from_an_older_version_is_applied_change_by_change(tmp_path: Path) -> None:
    store, sink = open_store("", "test", tmp_path), MemorySink()
    store_letter(store, 1, folded([entry("I", key, "read", 10) for key in range(20)]))
    done = redrive(store.read(), store, lambda: sink)
    assert (done.outcome.applied, list(done.remaining), list(store.read())) == (20, [], [])
    assert len(sink.rows) == 20
